"""Scores of many scans on disk: a table, JSON, and maps in each scan's own grid."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.data.manifest import Case, Refusal
from medgan.errors import DataError
from medgan.files import write_atomic
from medgan.model import Model
from medgan.volume import Volume

Row = dict[str, Any]
MAP_TEXT = "medgan score map, healthy standard deviations"
RECON_TEXT = "medgan reconstruction"


def score_cases(
    model: Model,
    cases: Sequence[Case],
    folder: Path,
    health_is_known: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Row], list[Refusal]]:
    """Scores every case and writes `scores.csv`, `scores.json`, `maps/` and `recons/`.

    A scan that cannot be scored is refused and the rest goes on; what was scored is written even
    when something stops the rest.

    Args:
        model: calibrated.
        cases: from a manifest.
        folder: receives everything, under pseudonyms.
        health_is_known: whether the cases say who is healthy; the column stays empty otherwise.
        progress: told how many of how many are done.

    Returns:
        The rows of the table, highest score first, and the refusals.
    """
    rows: list[Row] = []
    refusals: list[Refusal] = []
    try:
        for number, case in enumerate(cases, start=1):
            try:
                rows.append(_score_case(model, case, folder, health_is_known))
            except DataError as error:
                refusals.append(Refusal(case.case, error.code, error.what, error.remedy))
            progress(number, len(cases))
    finally:
        rows.sort(key=lambda row: -row["score"])
        _write_rows(model, rows, folder)
    return rows, refusals


def _score_case(model: Model, case: Case, folder: Path, health_is_known: bool) -> Row:
    result = model.score(case.image)
    for kind, volume, text in (
        ("maps", result.score_map, MAP_TEXT),
        ("recons", result.recon, RECON_TEXT),
    ):
        save_like(volume, folder / kind / f"{case.case}.nii.gz", Path(case.image), text)
    return {
        "case": case.case,
        "subject": case.subject,
        "healthy": case.healthy if health_is_known else None,
        "score": round(result.score, 5),
        "p_value": round(result.p_value, 5),
        **{name: round(value, 5) for name, value in result.parts.items()},
        "map": f"maps/{case.case}.nii.gz",
        "recon": f"recons/{case.case}.nii.gz",
    }


def _write_rows(model: Model, rows: list[Row], folder: Path) -> None:
    calibration_scans = len(model.calibration.scores) if model.calibration else 0
    summary = {"model": model.facts, "calibration_scans": calibration_scans, "scans": rows}
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_atomic(folder / "scores.csv", text.getvalue())
    write_atomic(folder / "scores.json", json.dumps(summary, indent=1))


def save_like(volume: Volume, path: Path, source: Path, text: str) -> None:
    """Writes a map with the shape, affine and orientation codes of the file it was made for."""
    import nibabel

    header = nibabel.load(source).header  # pyright: ignore[reportPrivateImportUsage]
    data = volume.data.astype(np.float32).reshape(header.get_data_shape())  # pyright: ignore
    Volume(data, volume.affine).save(path, header, text)  # pyright: ignore[reportArgumentType]
