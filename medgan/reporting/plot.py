"""Plots in pages: values in, canvas positions for SVG out."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

MOST_POINTS = 300
"""Most points of a curve; a longer curve is averaged over neighbours."""
_BINS = 24
_DOT = 4.0
_MOST_STACKED = 12
_SIDE_BY_SIDE = 5
"""Most different numbers that stand side by side, whatever lies between them."""


class Tick(NamedTuple):
    """A labelled position on an axis."""

    at: float
    text: str


class Bar(NamedTuple):
    """A rectangle from the bottom axis up."""

    x: float
    y: float
    width: float
    height: float


class Dot(NamedTuple):
    """A named dot; kind is a class of the style sheet."""

    x: float
    y: float
    kind: str
    text: str


@dataclass(frozen=True)
class Plot:
    """A plot in units of a canvas with the origin in the upper left corner.

    Attributes:
        title: above the plot, or empty.
        text: description for screen readers.
        size: width and height.
        box: left, top, right and bottom of the area inside the axes.
        xs, ys: ticks.
        label: of the horizontal axis.
        points: of a line.
        bars, dots: of a distribution.
        limit: position of a dashed line across the horizontal axis.
        goal: of one across the vertical axis.
    """

    title: str
    text: str
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    xs: list[Tick]
    ys: list[Tick]
    label: str
    points: list[tuple[float, float]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    limit: float | None = None
    goal: float | None = None


class Score(NamedTuple):
    """The score of a scan; kind is a class of the style sheet."""

    name: str
    value: float
    kind: str


def curve(
    title: str,
    x: Sequence[int | float],
    y: Sequence[int | float],
    label: str,
    goal: float | None = None,
    span: tuple[float, float] | None = None,
) -> Plot:
    """A metric over a training; values that are not finite are left out.

    Args:
        title: name of the metric.
        x: volumes seen.
        y: the metric, same length.
        label: of the horizontal axis.
        goal: value at which the training stops, or None.
        span: values that the vertical axis holds in any case, so that curves can be compared.
    """
    size, box = (300, 150), (44.0, 22.0, 294.0, 118.0)
    points = np.array([x, y], float).T
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) > MOST_POINTS:
        points = np.array([p.mean(axis=0) for p in np.array_split(points, MOST_POINTS)])
    if not len(points):
        return Plot(title, f"{title}: no values", size, box, [], [], label)
    xs, across = _axis(points[:, 0].min(), points[:, 0].max(), box[0], box[2], 4)
    shown = [*points[:, 1], *(span or ()), *([] if goal is None else [goal])]
    ys, up = _axis(min(shown), max(shown), box[3], box[1], 4)
    line = [(across(float(a)), up(float(b))) for a, b in points]
    first, last = (f"{v:.3g}" for v in (points[0, 1], points[-1, 1]))
    text = f"{title}: from {first} at {points[0, 0]:,.0f} to {last} at {points[-1, 0]:,.0f} {label}"
    if goal is None:
        return Plot(title, text, size, box, xs, ys, label, line)
    text += f"; the training stops at {goal:g}"
    return Plot(title, text, size, box, xs, ys, label, line, goal=up(goal))


def distribution(healthy: Sequence[float], scores: Sequence[Score], limit: float | None) -> Plot:
    """Scores of scans as dots over the histogram of healthy scans' scores.

    Args:
        healthy: scores of the calibration scans.
        scores: of the scans.
        limit: score above which scans are flagged, or None.
    """
    values = [*healthy, *(score.value for score in scores), *([] if limit is None else [limit])]
    low, high = min(values, default=0.0), max(values, default=1.0)
    left, right = 40.0, 750.0
    xs, across = _axis(low, high, left, right, 9)
    stacked: Counter[int] = Counter()
    rows = []
    for score in scores:
        column = int(across(score.value) // (2.2 * _DOT))
        rows.append(stacked[column] % _MOST_STACKED)  # further dots overlap
        stacked[column] += 1
    top = 14 + (max(rows, default=0) + 1) * 2.2 * _DOT
    floor = top + 120
    dots = [
        Dot(across(s.value), top - 6 - row * 2.2 * _DOT, s.kind, f"{s.name}: {s.value:.2f}")
        for s, row in zip(scores, rows, strict=True)
    ]
    edges = np.linspace(left, right, _BINS + 1)
    counts = np.histogram([across(value) for value in healthy], edges)[0].astype(float)
    ys, up = _axis(0.0, max(float(counts.max()), 1.0), floor, top + 8, 3)
    bars = [
        Bar(float(a) + 1, up(n), float(b - a) - 2, floor - up(n))
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
        if n
    ]
    flagged = sum(score.kind == "flagged" for score in scores)
    text = (
        f"Scores of {len(scores)} scans, {flagged} of them flagged, above the histogram of the "
        f"scores of {len(healthy)} healthy calibration scans"
    )
    box = (left, 4.0, right, floor)
    return Plot(
        "", text, (760, round(floor) + 38), box, xs, ys,
        "score, healthy standard deviations", [], bars, dots,
        None if limit is None else across(limit),
    )  # fmt: skip


class Point(NamedTuple):
    """A value over a setting; kind is a class of the style sheet."""

    x: str
    y: float
    kind: str
    text: str


def scatter(title: str, points: Sequence[Point], label: str) -> Plot:
    """Values over a setting: numbers along an axis, few different ones or words side by side.

    Args:
        title: name of the value.
        points: any number.
        label: name of the setting.
    """
    size, box = (300, 150), (44.0, 22.0, 290.0, 118.0)
    points = [point for point in points if math.isfinite(point.y)]
    if not points:
        return Plot(title, f"{title}: no values", size, box, [], [], label)
    xs, places = _places([point.x for point in points], box[0] + 12, box[2] - 12)
    values = [point.y for point in points]
    ys, up = _axis(min(values), max(values), box[3], box[1], 4)
    dots = [
        Dot(x, up(point.y), point.kind, f"{label} {point.x}, {point.text}")
        for x, point in zip(places, points, strict=True)
    ]
    text = f"{title} of {len(points)} trainings over {label}"
    return Plot(title, text, size, box, xs, ys, label, dots=dots)


def _places(texts: Sequence[str], start: float, end: float) -> tuple[list[Tick], list[float]]:
    """Ticks, and the position of each text; numbers over a factor of ten by their logarithm."""
    known = list(dict.fromkeys(texts))
    try:
        numbers = [float(text) for text in known]
    except ValueError:
        numbers = []
    if len(known) <= _SIDE_BY_SIDE or not numbers:
        if numbers:
            known = [text for _, text in sorted(zip(numbers, known, strict=True))]
        step = (end - start) / len(known)
        at = {text: start + (n + 0.5) * step for n, text in enumerate(known)}
        return [Tick(at[text], text) for text in known], [at[text] for text in texts]
    values = [float(text) for text in texts]
    if min(values) > 0 and max(values) / min(values) >= 10:
        logs = [math.log10(value) for value in values]
        across = _Scale(min(logs), (end - start) / (max(logs) - min(logs)), start)
        tens = range(math.floor(min(logs)), math.ceil(max(logs)) + 1)
        factors = (1, 2, 5) if len(tens) < 4 else (1,)
        round_ones = [factor * 10.0**ten for ten in tens for factor in factors]
        ticks = [
            Tick(across(math.log10(one)), f"{one:g}")
            for one in round_ones if min(logs) <= math.log10(one) <= max(logs)
        ]  # fmt: skip
        return ticks, [across(log) for log in logs]
    ticks, across = _axis(min(values), max(values), start, end, 4)
    return ticks, [across(value) for value in values]


class _Scale(NamedTuple):
    """Linear map from values to canvas positions."""

    low: float
    slope: float
    start: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) * self.slope


def _axis(
    low: float, high: float, start: float, end: float, count: int
) -> tuple[list[Tick], _Scale]:
    """Ticks at round values, and their scale."""
    low, high = float(low), float(high)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    step = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(s for s in (step, 2 * step, 5 * step, 10 * step) if (high - low) / s <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    scale = _Scale(first * step, (end - start) / ((last - first) * step), start)
    # Steps of 1, 2 and 5: no tick needs more digits than its step.
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    texts = (f"{n * step:,.{digits}f}" if 1e-4 <= step < 1e6 else f"{n * step:.1e}"
             for n in range(first, last + 1))  # fmt: skip
    ticks = [Tick(scale(first * step + n * step), text) for n, text in enumerate(texts)]
    return ticks, scale
