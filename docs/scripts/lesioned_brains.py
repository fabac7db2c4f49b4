"""Brains with planted lesions for the study of lesions from few labelled brains.

Writes OUT/brains.csv and OUT/splits.json for `medgan utility`. Lesions have the shapes and places
of strokes. No shape and no family of one split is used in another:

- 15 training brains have a lesion of one family, the other 75 are healthy (empty label maps);
- each calibration brain comes healthy and with a lesion, each test brain healthy and with each of
  two lesions. A patient with multiple sclerosis is in the test split, too.

python docs/scripts/lesioned_brains.py DATA OUT
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.core.volume import SYNTHETIC, Volume
from medgan.data.lesion_drawing import DrawnLesion, LesionDrawing
from medgan.data.lesion_scale import lesion_scale
from medgan.data.shape_library import LesionShape, read_shapes
from medgan.workflows.augmented.real import save_as_stored

FAMILIES = {
    "train": ("darker",),
    "calibration": ("brighter", "fill", "blur", "reflection"),
    "test": ("missing", "noise", "bias", "ghost", "shift"),
}
SHAPES = {"train": "train", "calibration": "validation", "test": "test"}
"""Lists of the stroke masks."""
EACH = {"train": 1, "calibration": 1, "test": 2}
"""Lesioned scans of a brain."""
EVERY = 6
"""Each sixth training brain has a lesion."""
SMALLEST = 10.0
"""Millilitres; 90 voxels of 4.8 mm."""
STRENGTH = 2 / 3, 1.0
"""From faint to strong, as in the benchmark of detection."""
VISIBLE, SHARE = 0.05, 0.5
"""Smallest smoothed change of a visible voxel, in units of [-1, 1], and their smallest share."""
PATIENT = "ms_patient"


def main(data: Path, out: Path) -> None:
    """Writes the scans, the table and the splits."""
    lists = json.loads((data / "splits.json").read_text())
    rows, brains = [], lists["ixi_brain_2mm"]
    for split, families in FAMILIES.items():
        masks = lists["soop_lesion_masks"][SHAPES[split]]
        found = read_shapes(data / "soop_lesion_masks", masks)
        shapes = tuple(shape for shape in found if shape.millilitres >= SMALLEST)
        for number, subject in enumerate(sorted(brains[split])):
            path = next((data / "ixi_brain_2mm" / subject).rglob("*T1w.nii.gz")).resolve()
            lesioned = split != "train" or number % EVERY == 0
            if split != "train" or not lesioned:
                rows.append(healthy(path, subject, out))
            for n in range(EACH[split] * lesioned):
                family = families[(number * EACH[split] + n) % len(families)]
                rows.append(planted(path, subject, n, family, shapes, out))
    patient = (data / PATIENT).resolve()
    files = {"image": str(patient / "T1.nii.gz"), "label": str(patient / "lesions.nii.gz")}
    rows.append({**files, "subject": PATIENT, "lesion": "multiple sclerosis"})
    with (out / "brains.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ("image", "label", "subject", "lesion"))
        table.writeheader()
        table.writerows(rows)
    splits = {split: brains[split] for split in FAMILIES} | {"validation": []}
    splits["test"] = [*splits["test"], PATIENT]
    (out / "splits.json").write_text(json.dumps(splits, indent=1))


def healthy(path: Path, subject: str, out: Path) -> dict[str, str]:
    """A brain as it is, with an empty label map."""
    scan, label = Volume.load(path), f"labels/{subject}-healthy.nii.gz"
    scan.like(np.zeros(scan.shape, np.uint8)).save(out / label)
    return {"image": str(path), "label": label, "subject": subject, "lesion": "none"}


def planted(
    path: Path, subject: str, number: int, family: str, shapes: tuple[LesionShape, ...], out: Path
) -> dict[str, str]:
    """A brain with one lesion, and its mask."""
    scan = Volume.load(path)
    plain = scan.canonical()
    native = np.ascontiguousarray(plain.data, np.float32)
    scale = lesion_scale(native, "mri")
    volume = scale(torch.from_numpy(native)).numpy()
    rng = np.random.default_rng([number, *subject.encode()])
    drawing = LesionDrawing(shapes, families=(family,), strength=STRENGTH)
    lesion = visible(drawing, volume, plain.spacing, rng)
    name = f"{subject}-{number}.nii.gz"
    drawn = np.rint(lesion.onto(volume, native, scale)).clip(0, 255).astype(np.float32)
    save_as_stored(scan.from_canonical(drawn), out / "images" / name, f"{SYNTHETIC}, {family}")
    mask = scan.from_canonical(lesion.mask.astype(np.uint8))
    mask.like(mask.data.astype(np.uint8)).save(out / "labels" / name, f"{SYNTHETIC}, {family}")
    paths = {"image": f"images/{name}", "label": f"labels/{name}"}
    return {**paths, "subject": subject, "lesion": family}


def visible(
    drawing: LesionDrawing, volume: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator
) -> DrawnLesion:
    """A lesion that changes at least half of its mask visibly; the most visible one of fifty."""
    best, most = None, -1.0
    for _ in range(50):
        try:
            lesion = drawing(volume, spacing, rng)
        except DataError:  # the shape does not fit into this brain
            continue
        change = np.abs(lesion.onto(volume, volume) - volume)
        seen = ndimage.gaussian_filter(change, 1)[lesion.mask] > VISIBLE
        if seen.mean() > most:
            best, most = lesion, float(seen.mean())
        if most >= SHARE:
            break
    assert best is not None, "one of fifty strokes fits"
    return best


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
