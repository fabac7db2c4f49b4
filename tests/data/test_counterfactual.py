"""Other values of one condition."""

import pytest

from medgan.core.config import Condition
from medgan.data.counterfactual import other_values
from tests.kit.models import AGE, SEX

PHASE = Condition(name="phase", kind="periodic", mean=0.5, spread=0.3)
SITE = Condition(name="site", kind="categorical", values=("A", "B", "C", "D"),
                 shares=(0.1, 0.4, 0.2, 0.3))  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "value", "others"),
    [
        (AGE, 50.0, [30.0, 70.0]),
        (AGE, 75.0, [55.0, 80.0]),
        (AGE, 80.0, [60.0]),
        (AGE, None, [30.0, 70.0]),
        (PHASE, 0.125, [0.875, 0.375]),
        (SEX, "F", ["M"]),
        (SITE, "B", ["D", "C"]),
        (SITE, None, ["B", "D"]),
    ],
)
def test_other_values_are_a_step_away_and_within_those_of_the_training_scans(
    condition, value, others
):
    assert other_values(condition, value) == others
