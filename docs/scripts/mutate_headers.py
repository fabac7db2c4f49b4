"""Changes bytes of NIfTI headers at random, and compares three readers of what medgan accepts.

Every scan that medgan accepts must have the affine and the voxels of nibabel and of SimpleITK. What
it refuses must be refused by a typed error, within a second of processor time. Exceptions, which
are counted: headers without any orientation (W_ORIENTATION) and those whose two forms differ in
place (W_TWO_FORMS), where nibabel and SimpleITK follow different rules and medgan says so.

    python docs/scripts/mutate_headers.py --count 1000000 --json found.json
    python docs/scripts/mutate_headers.py --count 100000 --sitk --json compared.json
"""

import argparse
import json
import os
import platform
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np

from medgan.core.errors import DataError
from medgan.core.nifti import NiftiFile
from medgan.data.checks import check_image

HEADER = 352
ROUNDING = 0.15
"""Voxels that a corner may lie elsewhere: `MAX_APART`, and `MAX_ROUNDING` along short axes."""
EXCEPTIONS = {"W_ORIENTATION", "W_TWO_FORMS"}
GEOMETRY = {
    **{name: (at, 4) for name, at in {"srow_x": 280, "srow_y": 296, "srow_z": 312}.items()},
    "pixdim": (76, 4), "codes": (252, 1), "quatern": (256, 6), "dim": (40, 4), "scaling": (112, 2),
}  # fmt: skip
"""Where fields of the geometry begin, and how many bytes or floats they have: hit more often."""


def seeds() -> list[bytes]:
    """Good files with an s-form alone, a q-form alone and both, little and big endian, NIfTI-2."""
    data = np.random.default_rng(0).integers(0, 1000, (6, 7, 8)).astype(np.int16)
    affine = np.array([[2.0, 0, 0, -5], [0, 1.5, 0, 7], [0, 0, 3, 9], [0, 0, 0, 1]])
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    found = []
    for forms in ("s", "q", "sq", "turned"):
        image = nibabel.Nifti1Image(data, None)
        image.header.set_data_dtype(np.int16)
        wanted = turn @ affine if forms == "turned" else affine
        image.header.set_zooms((2.0, 1.5, 3.0))
        if forms != "q":
            image.header.set_sform(wanted, 1)
        if forms != "s":
            image.header.set_qform(wanted, 1)
        plain = nibabel.Nifti1Image(data, None, image.header)
        found.append(plain.to_bytes())
    swapped = nibabel.Nifti1Image(data, affine, nibabel.Nifti1Header(endianness=">"))
    return [*found, swapped.to_bytes()]


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to three bytes of its header changed, half the time of its geometry."""
    raw = bytearray(whole)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(HEADER))
        if rng.random() < 0.5:
            start, count = list(GEOMETRY.values())[rng.integers(len(GEOMETRY))]
            place = start + int(rng.integers(4 * count))
        raw[place] = rng.choice([rng.integers(256), 0, 1, 2, 127, 128, 255])
    return bytes(raw)


def by_simpleitk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Affine (RAS+, in the header's unit as SimpleITK takes it) and voxels (X, Y, Z)."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1, 1, 1]) @ affine, sitk.GetArrayFromImage(image).T


def differs(file: NiftiFile, path: Path, sitk: bool) -> str:
    """What another reader finds otherwise; empty where all agree."""
    volume, notes = file.volume, {note.code for note in file.notes}
    unit = {1: 1e3, 3: 1e-3}.get(int(volume.header["xyzt_units"]) & 7, 1.0)
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3] *= unit
    if not np.array_equal(affine, volume.affine):
        return "affine of nibabel"
    data = np.asanyarray(image.dataobj).astype(np.float32).reshape(volume.data.shape)
    if not np.array_equal(data, volume.data):
        return "voxels of nibabel"
    if not sitk:
        return ""
    if exception := min(notes & EXCEPTIONS, default=""):
        return f"not compared: {exception}"
    try:
        affine, data = by_simpleitk(path)
    except (RuntimeError, ValueError):
        return "SimpleITK refuses it"
    if data.shape != volume.data.shape:
        return "shape of SimpleITK"
    if not np.allclose(data, volume.data, rtol=1e-4, atol=1e-3):
        return "voxels of SimpleITK"
    last = np.array(volume.data.shape) - 1
    corners = np.array([[*(corner * last), 1] for corner in np.ndindex(2, 2, 2)])
    apart = np.abs((corners @ (affine - volume.affine).T)[:, :3]).max()
    allowed = ROUNDING * min(volume.spacing)
    return "" if apart <= allowed + 1e-5 * np.abs(volume.affine).max() else "affine of SimpleITK"


def main() -> None:
    """Runs the mutations and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sitk", action="store_true", help="compare with SimpleITK, too")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    if options.sitk:  # its readers warn of nearly every mutation, from C++
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    found = search(options.count, options.seed, options.sitk)
    found |= {"count": options.count, "seed": options.seed, "machine": platform.processor()}
    options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def search(count: int, seed: int, sitk: bool) -> dict[str, object]:
    """How many mutations ended how, and the numbers of those that should not have."""
    rng, good = np.random.default_rng(seed), seeds()
    outcomes: Counter[str] = Counter()
    wrong: dict[str, list[int]] = {}
    slowest, start = 0.0, time.process_time()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        for number in range(count):
            path.write_bytes(mutated(good[number % len(good)], rng))
            begun, bad = time.process_time(), ""
            try:
                file = check_image(path, "c-1")
            except DataError as error:
                outcomes[error.code] += 1
                file = None
            except Exception as error:
                bad, file = f"untyped {type(error).__name__}", None
            slowest = max(slowest, time.process_time() - begun)
            if file is not None:
                outcomes["accepted"] += 1
                bad = differs(file, path, sitk)
            if bad:
                outcomes[bad] += 1
                wrong.setdefault(bad, []).append(number)
    return {
        "outcomes": dict(outcomes.most_common()), "slowest_s": round(slowest, 3),
        "first": {name: numbers[:20] for name, numbers in wrong.items()},
        "processor_s": round(time.process_time() - start),
    }  # fmt: skip


if __name__ == "__main__":
    main()
