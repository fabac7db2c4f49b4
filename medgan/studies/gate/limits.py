"""What was measured of a version, held against the limits of a gate and against the champion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medgan.core.config import GateMetric, Limit
from medgan.evaluation.interval import Interval

Figures = Mapping[str, Interval]


@dataclass(frozen=True)
class Metric:
    """What a gate measures.

    Attributes:
        title: in words.
        smaller: whether a smaller value is better.
        meaning: for the page.
        by_interval: whether a limit is broken only where the whole 95% interval is beyond it.
    """

    title: str
    smaller: bool
    meaning: str
    by_interval: bool = False


METRICS = {
    "kernel_distance": Metric(
        "kernel distance", True,
        "of synthetic scans from the test scans",
    ),
    "dice_ratio": Metric(
        "Dice ratio", False,
        "Dice on real scans of networks that learned from synthetic scans alone, as a share of "
        "those that learned from real ones",
    ),
    "auroc": Metric(
        "AUROC", False,
        "of scores: scans with a planted lesion above other subjects' scans without",
    ),
    "average_precision": Metric(
        "average precision", False, "of maps: voxels of planted lesions among all voxels"
    ),
    "false_alarms": Metric(
        "false alarms", True,
        "share of healthy test scans with a p-value of at most 0.05; more than chance explains "
        "fails",
        by_interval=True,
    ),
    "not_comparable": Metric(
        "not comparable", True,
        "share of healthy test scans that the model calls unlike its calibration scans",
    ),
}  # fmt: skip
"""All metrics, by the names that limits use."""


@dataclass(frozen=True)
class Check:
    """One line of a gate.

    Attributes:
        name: of the metric, `audit` or `scope`.
        title: in words.
        passed: whether the version keeps the limit.
        finding: why, in a sentence.
        value: of the version; None where there is none.
        champion: the champion's, measured on the same scans; None where there is none.
        limit: in words.
        meaning: of the metric.
    """

    name: str
    title: str
    passed: bool
    finding: str
    value: Interval | None = None
    champion: Interval | None = None
    limit: str = ""
    meaning: str = ""

    @property
    def line(self) -> str:
        """For a terminal."""
        return f"{'passed' if self.passed else 'FAILED'}  {self.title}: {self.finding}"


def checks(
    figures: Figures, champion: Figures | None, limits: Mapping[GateMetric, Limit | None]
) -> tuple[Check, ...]:
    """A line for each limit.

    Args:
        figures: of the version that asks.
        champion: of the present champion on the same scans; None without one.
        limits: by names of `METRICS`; None is no limit.
    """
    found = [
        _check(name, figures, champion, limit)
        for name, limit in limits.items()
        if limit is not None
    ]
    if not any(one.value for one in found):
        found.append(Check("scope", "scope", False, "nothing that the gate measures applies to it"))
    return tuple(found)


def _check(name: str, figures: Figures, champion: Figures | None, limit: Limit) -> Check:
    metric, value = METRICS[name], figures.get(name)
    other = None if champion is None else champion.get(name)
    about = (value, other, _text(limit, metric), metric.meaning)
    if value is None and other is None:
        return Check(name, metric.title, True, "does not apply to this model", *about)
    if value is None:
        what = "the champion has it, and this version cannot be measured"
        return Check(name, metric.title, False, what, *about)
    broken = _broken(value, other, limit, metric)
    shown = f"{value.value:.3g} ({value.low:.3g} to {value.high:.3g})"
    if other is not None:
        shown += f", the champion {other.value:.3g}"
    return Check(
        name, metric.title, not broken, "; ".join([shown, *broken]), *about
    )  # fmt: skip


def _broken(value: Interval, other: Interval | None, limit: Limit, metric: Metric) -> list[str]:
    """What of a limit is not kept, in words."""
    highest = value.low if metric.by_interval else value.value
    lowest = value.high if metric.by_interval else value.value
    found = []
    if limit.least is not None and not lowest >= limit.least:
        found.append(f"less than {limit.least:g}")
    if limit.most is not None and not highest <= limit.most:
        found.append(f"more than {limit.most:g}")
    if other is not None and limit.worse_by is not None:
        worse = (value.value - other.value) * (1 if metric.smaller else -1)
        if not worse <= limit.worse_by:
            found.append(f"worse than the champion by more than {limit.worse_by:g}")
    return found


def _text(limit: Limit, metric: Metric) -> str:
    parts = []
    if limit.least is not None:
        parts.append(f"at least {limit.least:g}")
    if limit.most is not None:
        parts.append(f"at most {limit.most:g}")
    if limit.worse_by is not None:
        side = "above" if metric.smaller else "below"
        parts.append(f"at most {limit.worse_by:g} {side} the champion")
    return ", ".join(parts)


def failed(found: Sequence[Check]) -> tuple[str, ...]:
    """What a version was refused for, a line each."""
    return tuple(f"{one.title}: {one.finding}" for one in found if not one.passed)
