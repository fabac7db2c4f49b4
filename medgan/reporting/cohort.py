"""The page of all scores of a run: who is flagged, who lies where, what was left out."""

from typing import Any

import numpy as np

from medgan.reporting.pictures import plane, thumbnail
from medgan.reporting.plot import Score, distribution
from medgan.reporting.scan import Maps, heat_range, kind_of
from medgan.reporting.template import picture, render

_FIXED = (
    *("case", "subject", "healthy", "score", "p_value", "q_value", "alarm", "comparable"),
    *("explanation", "map", "recon", "regions", "flagged", "regions_found", "page", "picture"),
)

Row = dict[str, Any]


def cohort_page(
    scores: dict[str, Any],
    rows: list[Row],
    calibration: dict[str, Any],
    refused: list[dict[str, str]],
    trained: bool,
) -> str:
    """The page as text.

    Args:
        scores: what scores.json holds.
        rows: its scans with `flagged`, `regions_found`, and the `page` and `picture` of each, or
            nothing.
        calibration: `scores` of healthy scans, `rate` and `limit` of flags.
        refused: rows of refused.csv.
        trained: whether there is a page of the training.
    """
    parts = [name for name in rows[0] if name not in _FIXED] if rows else []
    marks = [Score(row["case"], row["score"], kind_of(row)) for row in rows]
    return render(
        "cohort.html.j2",
        rows=rows,
        parts=parts if len(parts) > 1 else [],
        known=any(row["healthy"] is not None for row in rows),
        verdict=_verdict(rows, calibration),
        calibration=calibration,
        plot=distribution(calibration["scores"], marks, calibration["limit"]),
        odd=[row for row in rows if row["p_value"] is None],
        refused=refused,
        trained=trained,
        facts={name.replace("_", " "): fact for name, fact in scores["model"].items()},
    )


def thumbnail_of(maps: Maps, level: float) -> dict[str, str]:
    """The axial slice through the highest heat: source of an image, and width over height."""
    volume = maps.scan.canonical()
    scan, heat = volume.data, maps.heat.canonical().data
    at = int(np.unravel_index(int(np.argmax(heat)), heat.shape)[2])
    level, top = heat_range(level)
    window = (float(scan.min()), float(np.percentile(scan, 99.8)))
    step = max(1, max(scan.shape[:2]) // 128)
    slices = (plane(data, 2, at)[::step, ::step] for data in (scan, heat))
    source = picture(thumbnail(next(slices), window, next(slices), (level / 2, top)))
    wide, tall = (n * s for n, s in zip(scan.shape[:2], volume.spacing[:2], strict=True))
    return {"source": source, "ratio": f"{wide / tall:.4g}"}


def _verdict(rows: list[Row], calibration: dict[str, Any]) -> str:
    """What the scores say of the whole cohort, in a few sentences."""
    judged = [row for row in rows if row["p_value"] is not None]
    flagged = sum(row["flagged"] for row in rows)
    text = (
        f"{flagged} of {len(rows)} scans flagged: a p-value of {calibration['rate']:g} or less "
        f"against {len(calibration['scores'])} healthy calibration scans."
    )
    if len(judged) < len(rows):
        text += f" {len(rows) - len(judged)} not comparable with these, and so without a p-value."
    healthy = [row["score"] for row in judged if row["healthy"] is True]
    others = [row["score"] for row in judged if row["healthy"] is False]
    if healthy and others:
        from sklearn.metrics import roc_auc_score

        area = roc_auc_score([0] * len(healthy) + [1] * len(others), healthy + others)
        text += (
            f" {len(others)} scans are known not to be healthy; the area under the ROC curve that"
            f" tells them from the {len(healthy)} healthy ones is {area:.2f}."
        )
    return text
