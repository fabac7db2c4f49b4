"""Conditions that are numbers: on a line, such as age, or around a cycle, such as a heartbeat."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from medgan.core.config import Condition
from medgan.data.layouts.phases import PHASE, TIME
from medgan.data.manifest import Case

NUMBERS = ("continuous", "periodic")
"""Kinds of conditions whose values are numbers."""
LEVELS = np.linspace(0, 1, 21)
"""At which their quantiles are kept."""


def learn_numbers(
    name: str,
    kind: Literal["continuous", "periodic"],
    found: Sequence[float],
    cases: Sequence[Case],
) -> Condition:
    """A condition with what the training scans have of it.

    Args:
        name: of the condition.
        kind: likewise.
        found: its known values.
        cases: the training cases.
    """
    values = np.asarray(found) % 1 if kind == "periodic" else np.asarray(found)
    return Condition(
        name=name, kind=kind, mean=float(values.mean()), spread=float(values.std()) or 1.0,
        quantiles=tuple(map(float, np.quantile(values, LEVELS))),
        cycle=_seconds_of_a_cycle(name, cases) if kind == "periodic" else 0.0,
    )  # fmt: skip


def coded(condition: Condition, number: float) -> tuple[float, float]:
    """A number as networks read it; (0, 0) is no number of either kind.

    On a line `[standardised, 1]`, around a cycle sine and cosine, so that its end is its beginning.

    Args:
        condition: continuous or periodic.
        number: its value; of a periodic one the share of the cycle, of which whole ones fall away.
    """
    if condition.kind == "periodic":
        turn = 2 * math.pi * number
        return math.sin(turn), math.cos(turn)
    return (number - condition.mean) / condition.spread, 1.0


def _seconds_of_a_cycle(name: str, cases: Sequence[Case]) -> float:
    """Mean length of the cycles of a phase, in seconds; 0 where no header says."""
    found = [
        float(case.covariates[TIME]) / float(case.covariates[PHASE])
        for case in cases
        if name == PHASE and TIME in case.covariates and float(case.covariates.get(PHASE, 0)) > 0
    ]
    return round(float(np.mean(found)), 6) if found else 0.0
