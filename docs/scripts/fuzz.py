"""Lets a fuzzer that follows coverage (atheris, libFuzzer) look for files that break a reader.

Each reader may read a file or raise a `MedganError`; whatever else it raises, more than ten
seconds or 4 GiB of memory ends the search, and the file is kept in the folder of `--json`. With
several readers each has an equal share of the minutes, in a process of its own.

    python -m pip install atheris
    python docs/scripts/fuzz.py --minutes 60 --json runs/fuzz/fuzz.json
    python docs/scripts/fuzz.py nifti dicom --minutes 10 --json runs/fuzz/two.json

Atheris is there for Linux, CPython 3.11 to 3.13.
"""

import argparse
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

KINDS = ("nifti", "nifti.gz", "dicom", "table", "manifest", "splits", "dataset", "yaml", "tensors")
TEXTS = {
    "table": "image,label,case,subject,age\na.nii.gz,a_seg.nii.gz,\"x, y\",s,7\nb.nii.gz,,z,t,8\n",
    "splits": '{"train": ["a"], "calibration": ["b"], "test": ["c"]}',
    "dataset": '{"training": [{"image": "a.nii.gz", "label": "b.nii.gz"}], "test": ["c.nii.gz"], '
    '"channel_names": {"0": "T1"}, "file_ending": ".nii.gz"}',
    "yaml": "data:\n  source: in\n  fractions: [0.7, 0.1, 0.1, 0.1]\ntrain:\n  minutes: 3\n",
}  # fmt: skip
NAMES = {
    "nifti": "scan.nii", "nifti.gz": "scan.nii.gz", "dicom": "slice-0002.dcm", "table": "table.csv",
    "manifest": "manifest.json", "splits": "splits.json", "dataset": "dataset.json",
    "yaml": "config.yaml", "tensors": "prepared",
}  # fmt: skip


def seeds(kind: str, folder: Path) -> list[bytes]:
    """Good files of a kind. A series of DICOM slices is left in the folder, but for one slice."""
    import numpy as np

    if kind == "manifest":
        from medgan.data.manifest import Case, Manifest

        case = Case(
            "c-1", "s-1", {"image": "/x/1.nii"}, "/x/1_seg.nii", {"image": "0" * 64}, "1" * 64,
            (4, 5, 6), (1.0, 1.0, 1.0), (1,), {"age": "7"}, split="train",
        )  # fmt: skip
        Manifest((case,), ()).save(folder / "manifest.json")
        return [(folder / "manifest.json").read_bytes()]
    if kind in TEXTS:
        return [TEXTS[kind].encode()]
    if kind == "tensors":
        from medgan.data.prepared_file import to_bytes

        return [to_bytes({"image": np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)})]
    if kind == "dicom":
        from medgan.core.volume import Volume
        from medgan.data.dicom.synthetic import write_synthetic_series

        values = np.random.default_rng(0).integers(0, 900, (8, 8, 4)).astype(np.float32)
        write_synthetic_series(Volume(values, np.eye(4)), folder, "MR", "fuzz")
        found = folder / NAMES[kind]
        whole = found.read_bytes()
        found.unlink()
        return [whole]
    from mutate_headers import seeds as headers

    return [gzip.compress(one) if kind == "nifti.gz" else one for one in headers()]


def reader(kind: str, folder: Path) -> Callable[[bytes], None]:
    """Reads bytes as a file of a kind; raises whatever the reader raises."""
    from medgan.core.config.reading import build, read_yaml
    from medgan.core.errors import MedganError
    from medgan.data.checks import check_image
    from medgan.data.index import index
    from medgan.data.layouts.layouts import list_scans
    from medgan.data.manifest import Manifest
    from medgan.data.prepared_file import from_bytes
    from medgan.data.pseudonyms import Pseudonyms
    from medgan.data.splits import read_splits

    path = folder / NAMES[kind]
    converted = folder.parent / "converted"
    expected: tuple[type[Exception], ...] = (MedganError,)
    if kind == "tensors":  # the one error that stands for damage
        from safetensors import SafetensorError

        expected = (MedganError, SafetensorError)
    reads: dict[str, Callable[[], object]] = {
        "nifti": lambda: check_image(path, "c-1"),
        "nifti.gz": lambda: check_image(path, "c-1"),
        "dicom": lambda: index(folder, Pseudonyms(b"salt"), converted=converted),
        "table": lambda: list_scans(path),
        "manifest": lambda: Manifest.load(path),
        "splits": lambda: read_splits(path, folder),
        "dataset": lambda: list_scans(folder),
        "yaml": lambda: build(read_yaml(path)),
        "tensors": lambda: from_bytes(path.read_bytes()),
    }

    def read(raw: bytes) -> None:
        path.write_bytes(raw)
        with suppress(*expected):
            reads[kind]()

    return read


def search(kind: str, seconds: int, kept: Path, place: Path) -> None:
    """Searches within this process, which libFuzzer ends; files are tried in `place`."""
    import atheris

    with atheris.instrument_imports(include=["medgan"]):
        folder, corpus = place / "in", place / "corpus"
        folder.mkdir()
        corpus.mkdir()
        good = seeds(kind, folder)
        for number, raw in enumerate(good):
            (corpus / str(number)).write_bytes(raw)
        limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=4096"]
        size = [f"-max_len={2 * max(map(len, good)) + 1000}", f"-artifact_prefix={kept}/{kind}-"]
        arguments = [sys.argv[0], str(corpus), *limits, *size, "-print_final_stats=1"]
        atheris.Setup(arguments, reader(kind, folder))
        atheris.Fuzz()


def main() -> None:
    """Searches with each reader in turn and writes what was tried and found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS, metavar="kind", help=", ".join(KINDS))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    kept = asked.json.resolve().parent
    kept.mkdir(parents=True, exist_ok=True)
    seconds = round(60 * asked.minutes / len(asked.kinds))
    if asked.here:
        return search(asked.kinds[0], seconds, kept, asked.here)
    found = {}
    for kind in asked.kinds:
        own = [sys.executable, __file__, kind, "--minutes", f"{seconds / 60}"]
        own += ["--json", str(asked.json)]
        with (kept / f"{kind}.log").open("wb") as log, TemporaryDirectory() as place:
            ended = subprocess.run([*own, "--here", place], stdout=log, stderr=log)
        text = (kept / f"{kind}.log").read_text("utf-8", "replace")
        stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", text))
        coverage = re.findall(r"cov: (\d+)", text)
        found[kind] = {
            "status": ended.returncode, "files": int(stats.get("number_of_executed_units", 0)),
            "slowest_s": int(stats.get("slowest_unit_time_sec", 0)),
            "peak_mb": int(stats.get("peak_rss_mb", 0)), "edges": int([0, *coverage][-1]),
        }  # fmt: skip
        print(kind, found[kind], flush=True)
        asked.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    sys.exit(any(one["status"] for one in found.values()))


if __name__ == "__main__":
    main()
