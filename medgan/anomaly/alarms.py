"""From p-values to alarms: thresholds for a rate of false ones, and for a whole cohort at once."""

import math
from collections.abc import Sequence

from medgan.core.errors import DataError


def is_alarm(p_value: float, rate: float) -> bool:
    """Whether a scan raises an alarm: its p-value is at most the rate.

    This alone decides. `threshold` only draws the same limit on an axis of scores.

    Args:
        p_value: conformal, not rounded.
        rate: of false alarms among healthy scans.
    """
    return p_value <= rate


def threshold(healthy: Sequence[float], rate: float) -> float:
    """The score above which a scan's conformal p-value is at most `rate`.

    Args:
        healthy: scores of calibration scans.
        rate: of false alarms among healthy scans, between 0 and 1.

    Raises:
        DataError: E_CALIBRATION when the calibration scans are too few for so low a rate: with n
            of them no p-value is below 1 / (n + 1).

    Example:
        >>> threshold([1.0, 2.0, 3.0, 4.0], 0.4)
        3.0
    """
    count = _rank(len(healthy), rate)
    if count < 1:
        needed = smallest_calibration(rate)
        raise DataError(
            "E_CALIBRATION", f"{len(healthy)} healthy scans",
            f"a false-alarm rate of {rate:g} needs {needed}",
            f"calibrate with {needed} healthy scans or more, or ask for "
            f"{1 / (len(healthy) + 1):.2g} or more",
        )  # fmt: skip
    if count > len(healthy):
        return -math.inf
    return sorted(healthy, reverse=True)[count - 1]


def smallest_calibration(rate: float) -> int:
    """How many calibration scans a rate of false alarms needs.

    Example:
        >>> smallest_calibration(0.01)
        99
    """
    count = max(0, math.ceil(1 / rate) - 2)
    while _rank(count, rate) < 1:
        count += 1
    return count


def _rank(count: int, rate: float) -> int:
    """Calibration scores, the new one's among them, that may lie at or above an alarm."""
    return math.floor(rate * (count + 1) + 1e-9)


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """The smallest rate of false discoveries at which each scan of a cohort is called abnormal.

    Calling abnormal what is at most q keeps the expected share of healthy scans among those that
    are called so at q. Conformal p-values that share a calibration set depend on each other in the
    way that the procedure allows.

    Example:
        >>> false_discovery([0.01, 0.02, 0.5])
        [0.03, 0.03, 0.5]

    Reference: Benjamini and Hochberg 1995, JRSS B 57; Bates et al. 2023, arXiv 2104.08279,
        theorem 2.
    """
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(p_values)] if len(p_values) else []
