"""What a scan could have been asked for instead: other values of one condition."""

from collections.abc import Sequence

from medgan.core.config import Condition
from medgan.data.conditions import UNKNOWN, Value, is_known

MOST_CATEGORIES = 2
_LEAST = 0.05
"""Standard deviations by which a number has to differ."""


def other_values(condition: Condition, value: Value) -> Sequence[Value]:
    """Values to compare a scan with, within those of the training scans.

    Of a number, one standard deviation of the training scans less and one more, of an unknown one
    that of their mean; of a share of a cycle, a quarter before and behind; of a category the most
    frequent others; of a sentence, none.

    Args:
        condition: of the model.
        value: of the scan, None where unknown.
    """
    if condition.kind == "text":
        return [UNKNOWN] if is_known(value) else []
    if condition.kind == "categorical":
        often = sorted(zip(condition.shares, condition.values, strict=True), reverse=True)
        return [name for _, name in often if name != value][:MOST_CATEGORIES]
    own = float(value) if is_known(value) and value is not None else condition.mean
    if condition.kind == "periodic":
        return [float(f"{(own + step) % 1:.4g}") for step in (-0.25, 0.25)]
    low, high = condition.quantiles[0], condition.quantiles[-1]
    moved = (min(max(own + step, low), high) for step in (-condition.spread, condition.spread))
    return [
        float(f"{number:.4g}") for number in moved if abs(number - own) > _LEAST * condition.spread
    ]
