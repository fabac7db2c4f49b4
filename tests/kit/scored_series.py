"""Scores of two DICOM series, as scoring leaves them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from tests.kit.dicom import make_series, oblique, save

LEVEL = 3.0


def scored_series(tmp_path: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """Two scored series, the second not comparable, and the folder they came from."""
    source = tmp_path / "in"
    for number in range(2):
        save(make_series("CT", seed=number, cosines=oblique()), source / str(number))
    manifest, _ = index(source, Pseudonyms.of_site(), converted=tmp_path / "run" / "dicom")
    rows = []
    for case, comparable in zip(manifest.cases, (True, False), strict=True):
        heat = np.random.default_rng(0).normal(0, 1, case.shape).astype(np.float32)
        heat[8:12, 20:26, 3:5] = 7.5
        affine = Volume.load(case.image).affine
        for kind, data in (("maps", heat), ("regions", (heat > 7).astype(np.float32))):
            Volume(data, affine).save(tmp_path / "run" / kind / f"{case.case}.nii.gz")
        rows.append({
            "case": case.case, "subject": case.subject, "score": 4.2, "alarm": None,
            "p_value": 0.02 if comparable else None, "comparable": comparable,
            "explanation": "Said so.", "map": f"maps/{case.case}.nii.gz",
            "regions": f"regions/{case.case}.nii.gz",
        })  # fmt: skip
    write_scores(tmp_path / "run", rows)
    return tmp_path / "run", source, rows


def write_scores(folder, rows):
    summary = {"model": {"medgan": "1"}, "calibration": {"level": LEVEL}, "scans": rows}
    (folder / "scores.json").write_text(json.dumps(summary))
