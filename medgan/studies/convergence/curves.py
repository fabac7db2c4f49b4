"""Kernel distances over processor minutes of a training, and when goals were reached."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from medgan.core.tables import markdown_table

_FIRST_MINUTE, _GROWTH = 0.5, 1.15
"""When samples are first evaluated, and how much later each time: to within 15%."""
Row = dict[str, Any]


class Point(NamedTuple):
    """An evaluation.

    Attributes:
        minutes: of the processor, of training alone.
        volumes: seen by then.
        distance: kernel distance of samples to scans that were not learned from.
    """

    minutes: float
    volumes: int
    distance: float


class Training(NamedTuple):
    """A training, to be gone on with step by step.

    Attributes:
        steps: each gives the volumes seen so far.
        distance: of samples of its present state.
    """

    steps: Iterator[int]
    distance: Callable[[], float]


def followed(training: Training, minutes: float, device: torch.device) -> Iterator[Point]:
    """Evaluations of a training, the later the farther apart, the last one at its end."""
    spent, seen, due = 0.0, 0, 60 * min(_FIRST_MINUTE, minutes)
    while True:
        while spent < due:
            started = clock(device)
            seen = next(training.steps)
            spent += clock(device) - started
        yield Point(round(spent / 60, 3), seen, round(training.distance(), 4))
        if due >= 60 * minutes:
            return
        due = min(_GROWTH * due, 60 * minutes)


def clock(device: torch.device) -> float:
    """Seconds of the processor; on a GPU, where that waits, those of a clock."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def reached(curve: Sequence[Point], goal: float) -> float | None:
    """Minutes of the first evaluation that is at a goal; None where none is."""
    return next((point.minutes for point in curve if point.distance <= goal), None)


def row(name: str, curves: list[list[Point]], goals: Sequence[float]) -> Row:
    """Minutes to each goal in each training, and what was reached within which time."""
    return {
        "name": name,
        "minutes": {str(goal): [reached(curve, goal) for curve in curves] for goal in goals},
        "trained_minutes": [curve[-1].minutes if curve else 0.0 for curve in curves],
        "volumes": [curve[-1].volumes if curve else 0 for curve in curves],
        "smallest": [min((p.distance for p in curve), default=None) for curve in curves],
    }


def table(rows: Sequence[Row], goals: Sequence[float]) -> str:
    """Median minutes to each goal with their range, or the time within which it was not reached."""
    head = ["generator", *(f"minutes to {goal:g}" for goal in goals)]
    lines = []
    for row in rows:
        cells = [_told(row["minutes"][str(goal)], row["trained_minutes"]) for goal in goals]
        smallest = [one for one in row["smallest"] if one is not None]
        best = f"{min(smallest):.2f}" if smallest else "none"
        lines.append([row["name"], *cells, best, f"{max(row['volumes']):,}"])
    return markdown_table([*head, "smallest distance", "volumes"], lines)


def _told(found: Sequence[float | None], trained: Sequence[float]) -> str:
    """Minutes in words; a training that never came there took longer than it was trained."""
    known = [one for one in found if one is not None]
    if not known:
        return f"not in {min(trained):.0f}"
    middle = statistics.median_low(known)
    spread = f" ({min(known):.1f} to {max(known):.1f})" if len(known) > 1 else ""
    missed = f", {len(found) - len(known)} of {len(found)} not" if len(known) < len(found) else ""
    return f"{middle:.1f}{spread}{missed}"
