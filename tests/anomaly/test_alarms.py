import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from medgan.anomaly.alarms import false_discovery, smallest_calibration, threshold
from medgan.anomaly.calibration import conformal_p_value
from medgan.core.errors import DataError


@given(
    st.lists(st.floats(-5, 5).map(lambda x: round(x, 1)), min_size=1, max_size=60),
    st.floats(-5.5, 5.5),
    st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 1.0]),
)
def test_above_the_threshold_is_the_same_as_a_p_value_of_at_most_the_rate(healthy, score, rate):
    if len(healthy) < smallest_calibration(rate):
        with pytest.raises(DataError, match="E_CALIBRATION"):
            threshold(healthy, rate)
    else:
        called = score > threshold(healthy, rate)
        assert called == (conformal_p_value(score, healthy) <= rate + 1e-12)


@pytest.mark.parametrize(("rate", "scans"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1), (1.0, 0)])
def test_a_rate_needs_so_many_calibration_scans(rate, scans):
    assert smallest_calibration(rate) == scans
    with pytest.raises(DataError, match=f"needs {scans}") if scans else _passes():
        threshold([0.0] * max(scans - 1, 0), rate)
    assert threshold([0.0] * max(scans, 1), rate) in (0.0, -math.inf)


class _passes:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def test_the_rate_of_false_alarms_among_healthy_scans_is_at_most_what_was_asked():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(400):
        limit = threshold(rng.standard_normal(40).tolist(), 0.1)
        alarms.append((rng.standard_normal(20) > limit).mean())
    assert np.mean(alarms) == pytest.approx(4 / 41, abs=0.012)


def test_false_discoveries_stay_below_the_rate_in_a_cohort():
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(300):
        healthy = rng.standard_normal(99).tolist()
        scores = [*rng.standard_normal(30), *rng.normal(4, 1, 10)]
        q_values = np.array(false_discovery([conformal_p_value(float(s), healthy) for s in scores]))
        called = q_values <= 0.2
        shares.append(called[:30].sum() / max(called.sum(), 1))
    assert np.mean(shares) < 0.2


@given(st.lists(st.integers(1, 40).map(lambda n: n / 40), min_size=1, max_size=60))
def test_q_values_are_those_of_scipy(p_values):
    assert false_discovery(p_values) == pytest.approx(false_discovery_control(p_values).tolist())


def test_a_cohort_of_one_or_none():
    assert false_discovery([0.04]) == [0.04]
    assert false_discovery([]) == []
