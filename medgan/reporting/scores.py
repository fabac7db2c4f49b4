"""The page of all scores of a run: comparable scans, scans without a p-value, refused files."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from medgan.evaluation.interval import Interval, proportion
from medgan.reporting.plot import Score, distribution
from medgan.reporting.scan import Maps, heat_range, state_of
from medgan.reporting.slices import plane, thumbnail
from medgan.reporting.template import data_uri, render

_FIXED = (
    *("case", "subject", "healthy", "score", "p_value", "q_value", "alarm", "comparable"),
    *("explanation", "map", "recon", "regions", "flagged", "regions_found", "page", "thumbnail"),
    *("parts", "scored", "batch", "model", "model_sha256", "calibration", "replaces"),
)

Row = dict[str, Any]


class GroupAlarms(NamedTuple):
    """Flagged healthy scans of a group of age or sex.

    Attributes:
        name: of the group.
        scans: healthy and comparable.
        flagged: of these.
    """

    name: str
    scans: int
    flagged: int

    @property
    def share(self) -> Interval:
        """With its interval."""
        return proportion(self.flagged, self.scans)


def scores_page(
    scores: dict[str, Any],
    rows: list[Row],
    calibration: dict[str, Any],
    refused: list[dict[str, str]],
    trained: bool,
    alarms: Sequence[GroupAlarms] = (),
) -> str:
    """The page as text.

    Scans that are not comparable have a table of their own. Their scores are neither shown nor
    ordered.

    Args:
        scores: content of scores.json.
        rows: its scans with `flagged`, `regions_found`, and the `page` and `thumbnail` of each, or
            nothing.
        calibration: `scores` of healthy scans, `rate` and `limit` of flags.
        refused: rows of refused.csv.
        trained: whether there is a page of the training.
        alarms: false alarms of healthy scans by group.
    """
    facts = {name.replace("_", " "): fact for name, fact in scores["model"].items()}
    shown = _shown(Group(rows, calibration, facts))
    return render(
        "scores.html.j2", groups=[shown], refused=refused, trained=trained, alarms=alarms,
        rate=calibration["rate"],
    )  # fmt: skip


class Group(NamedTuple):
    """Scans that one model scored.

    Attributes:
        rows: with `flagged`, `regions_found`, `page` and `thumbnail`.
        calibration: `scores` of healthy scans, `rate` and `limit` of flags.
        facts: of the model.
        title: of its part of a page that shows several models.
        replaced: rows of scans that were scored again, each with the new one's name as `by`.
    """

    rows: list[Row]
    calibration: dict[str, Any]
    facts: dict[str, Any]
    title: str = ""
    replaced: Sequence[Row] = ()


def cohort_page(groups: Sequence[Group], refused: list[dict[str, str]]) -> str:
    """The page of scans that were scored over months.

    Args:
        groups: the newest model first.
        refused: rows of refused.csv.
    """
    shown = [_shown(group) for group in groups]
    return render("scores.html.j2", groups=shown, refused=refused, trained=False, alarms=(), rate=0)


def _shown(group: Group) -> dict[str, Any]:
    """What the page shows of a group."""
    rows, calibration = group.rows, group.calibration
    parts = [name for name in rows[0] if name not in _FIXED] if rows else []
    comparable = [row for row in rows if row["comparable"]]
    dots = [Score(row["case"], row["score"], state_of(row)) for row in comparable]
    return {
        "scored": bool(rows),
        "rows": comparable,
        "incomparable": [row for row in rows if not row["comparable"]],
        "parts": parts if len(parts) > 1 else [],
        "known": any(row.get("healthy") is not None for row in rows),
        "dated": any("scored" in row for row in rows),
        "summary": _summary(comparable, len(rows), calibration),
        "calibration": calibration,
        "plot": distribution(calibration["scores"], dots, calibration["limit"]),
        "facts": group.facts,
        "title": group.title,
        "replaced": group.replaced,
    }


def thumbnail_of(maps: Maps, level: float) -> dict[str, str]:
    """The axial slice through the highest value of the map: its source, and width over height."""
    volume = maps.scan.canonical()
    scan, heat = volume.data, maps.heat.canonical().data
    at = int(np.unravel_index(int(np.argmax(heat)), heat.shape)[2])
    level, top = heat_range(level)
    window = (float(scan.min()), float(np.percentile(scan, 99.8)))
    step = max(1, max(scan.shape[:2]) // 128)
    slices = (plane(data, 2, at)[::step, ::step] for data in (scan, heat))
    source = data_uri(thumbnail(next(slices), window, next(slices), (level / 2, top)))
    width, height = (n * s for n, s in zip(scan.shape[:2], volume.spacing[:2], strict=True))
    return {"source": source, "ratio": f"{width / height:.4g}"}


def _summary(comparable: list[Row], total: int, calibration: dict[str, Any]) -> str:
    """The result for the whole data set in a few sentences."""
    flagged = sum(row["flagged"] for row in comparable)
    text = (
        f"{flagged} of {len(comparable)} scans flagged: p-value at most {calibration['rate']:g} "
        f"against {len(calibration['scores'])} healthy calibration scans."
    )
    if len(comparable) < total:
        text += f" Not comparable with these and without p-value: {total - len(comparable)}."
    healthy = [row["score"] for row in comparable if row["healthy"] is True]
    unhealthy = [row["score"] for row in comparable if row["healthy"] is False]
    if healthy and unhealthy:
        from sklearn.metrics import roc_auc_score

        area = roc_auc_score([0] * len(healthy) + [1] * len(unhealthy), healthy + unhealthy)
        text += (
            f" Area under the ROC curve: {area:.2f} ({len(unhealthy)} unhealthy against"
            f" {len(healthy)} healthy scans)."
        )
    return text
