"""From p-values to alarms: at a rate of false alarms, and at a rate of false discoveries."""

import math
from collections.abc import Sequence

import numpy as np

from medgan.core.errors import DataError


def is_alarm(p_value: float, rate: float) -> bool:
    """Whether a scan raises an alarm: its p-value is at most the rate.

    This alone decides. `threshold` gives the same limit on the axis of scores, for plots.

    Args:
        p_value: conformal, not rounded.
        rate: of false alarms among healthy scans.
    """
    return p_value <= rate


def require_calibration(scans: int, rate: float) -> None:
    """Refuses a rate of false alarms that is too low for the number of calibration scans.

    Args:
        scans: number of calibration scans, n; no p-value is below 1 / (n + 1).
        rate: of false alarms among healthy scans, between 0 and 1.

    Raises:
        DataError: E_CALIBRATION.
    """
    if _rank(scans, rate) < 1:
        needed = smallest_calibration(rate)
        raise DataError(
            "E_CALIBRATION", f"{scans} healthy scans",
            f"a false-alarm rate of {rate:g} needs {needed}",
            f"calibrate with {needed} healthy scans or more, or ask for {1 / (scans + 1):.2g} or "
            "more",
        )  # fmt: skip


def threshold(healthy: Sequence[float], rate: float) -> float:
    """The score above which a scan's conformal p-value is at most `rate`.

    Args:
        healthy: scores of calibration scans.
        rate: of false alarms among healthy scans, between 0 and 1.

    Raises:
        DataError: E_CALIBRATION, of `require_calibration`.

    Example:
        >>> threshold([1.0, 2.0, 3.0, 4.0], 0.4)
        3.0
    """
    require_calibration(len(healthy), rate)
    count = _rank(len(healthy), rate)
    if count > len(healthy):
        return -math.inf
    return sorted(healthy, reverse=True)[count - 1]


def smallest_calibration(rate: float) -> int:
    """Number of calibration scans that a rate of false alarms needs.

    Example:
        >>> smallest_calibration(0.01)
        99
    """
    count = max(0, math.ceil(1 / rate) - 2)
    while _rank(count, rate) < 1:
        count += 1
    return count


def _rank(count: int, rate: float) -> int:
    """Rank from the top, the new scan's score included, that an alarm needs at least."""
    return math.floor(rate * (count + 1) + 1e-9)


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """Q-values: the lowest false discovery rate at which each scan of a data set is flagged.

    Where scans with a q-value of at most q are flagged, the expected share of healthy scans among
    them is at most q. Conformal p-values that share a calibration set are positively dependent,
    which the procedure allows.

    Example:
        >>> false_discovery([0.01, 0.02, 0.5])
        [0.03, 0.03, 0.5]

    Reference: Benjamini and Hochberg 1995, JRSS B 57; Bates et al. 2023, arXiv 2104.08279,
        theorem 2.
    """
    # As scipy.stats.false_discovery_control, whose import takes longer than scoring a scan.
    count = len(p_values)
    order = np.argsort(p_values)[::-1]
    raw = np.asarray(p_values, float)[order] * count / np.arange(count, 0, -1)
    q_values = np.empty(count)
    q_values[order] = np.minimum.accumulate(raw).clip(max=1) if count else raw
    return q_values.tolist()
