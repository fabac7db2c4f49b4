"""Metrics of several patients and methods: means with intervals, and paired differences."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medgan.evaluation.interval import Difference, Interval, by_subject, paired_difference
from medgan.evaluation.translation.metrics import TranslationMetrics


def mean_of(results: Sequence[TranslationMetrics], metric: str) -> Interval:
    """The mean of a metric over patients, with its bootstrap interval.

    Args:
        results: one a patient, at least one with the metric.
        metric: name of a field.
    """
    return by_subject(_values(results, metric))


def difference_of(
    ours: Sequence[TranslationMetrics], other: Sequence[TranslationMetrics], metric: str
) -> Difference:
    """The mean over patients of a metric of ours minus that of another method.

    Args:
        ours: one a patient.
        other: of the same patients in the same order; those without the metric are left out.
        metric: name of a field.
    """
    pair = np.stack([_values(other, metric), _values(ours, metric)])
    first, second = pair[:, ~np.isnan(pair).any(axis=0)]
    return paired_difference(
        first[None, :, None], second[None, :, None], lambda rows: float(rows.mean())
    )


def row(
    name: str,
    results: Sequence[TranslationMetrics],
    ours: Sequence[TranslationMetrics] | None = None,
) -> dict[str, Any]:
    """One method for a table or a JSON file.

    Args:
        name: of the method.
        results: one a patient.
        ours: of the method that all are compared with, the same patients in the same order; None
            for this one.

    Returns:
        name; metrics, each with value, low and high; and ours_minus, likewise with p_value.
    """
    known = [m for m in TranslationMetrics._fields if not np.isnan(_values(results, m)).all()]
    found: dict[str, Any] = {
        "name": name, "metrics": {metric: mean_of(results, metric).rounded() for metric in known}
    }  # fmt: skip
    if ours is not None:
        found["ours_minus"] = {}
        for metric in known:
            interval, p_value = difference_of(ours, results, metric)
            found["ours_minus"][metric] = {**interval.rounded(), "p_value": round(p_value, 4)}
    return found


def _values(results: Sequence[TranslationMetrics], metric: str) -> np.ndarray:
    return np.array([getattr(one, metric) for one in results], float)
