"""Scores of many scans on disk: a table, JSON, and maps in each scan's own grid."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.data.manifest import Case
from medgan.files import write_atomic
from medgan.model import Model, ScanScore
from medgan.volume import Volume

MAP_TEXT = "medgan score map, healthy standard deviations"
RECON_TEXT = "medgan reconstruction"


def score_cases(
    model: Model,
    cases: Sequence[Case],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Scores every case and writes `scores.csv`, `scores.json`, `maps/` and `recons/`.

    Args:
        model: calibrated.
        cases: from a manifest.
        folder: receives everything, under pseudonyms.
        progress: told how many of how many are done.

    Returns:
        The rows of the table, highest score first.
    """
    rows = []
    for case in cases:
        result = model.score(case.image)
        for kind, volume, text in (
            ("maps", result.score_map, MAP_TEXT),
            ("recons", result.recon, RECON_TEXT),
        ):
            save_like(volume, folder / kind / f"{case.case}.nii.gz", Path(case.image), text)
        rows.append(_row(case, result))
        progress(len(rows), len(cases))
    rows.sort(key=lambda row: -row["score"])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / "scores.csv", text.getvalue())
    summary = {"model": model.facts, "calibration_scans": _calibration_size(model), "scans": rows}
    write_atomic(folder / "scores.json", json.dumps(summary, indent=1))
    return rows


def save_like(volume: Volume, path: Path, source: Path, text: str) -> None:
    """Writes a map with the shape, affine and orientation codes of the file it was made for."""
    import nibabel

    header = nibabel.load(source).header  # pyright: ignore[reportPrivateImportUsage]
    data = volume.data.astype(np.float32).reshape(header.get_data_shape())  # pyright: ignore
    Volume(data, volume.affine).save(path, header, text)  # pyright: ignore[reportArgumentType]


def _row(case: Case, result: ScanScore) -> dict[str, Any]:
    return {
        "case": case.case,
        "subject": case.subject,
        "healthy": case.healthy,
        "score": round(result.score, 5),
        "p_value": round(result.p_value, 5),
        **{name: round(value, 5) for name, value in result.parts.items()},
        "map": f"maps/{case.case}.nii.gz",
        "recon": f"recons/{case.case}.nii.gz",
    }


def _calibration_size(model: Model) -> int:
    return len(model.calibration.scores) if model.calibration else 0
