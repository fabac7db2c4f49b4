"""Spread against error, where both are known."""

import math

import numpy as np
import pytest

from medgan.evaluation.translation.spread import spread_quality

SHAPE = (30, 30, 30)
ALL = np.ones(SHAPE, bool)
RNG = np.random.default_rng(0)


def test_normal_errors_of_the_stated_spread_are_covered_as_often_as_normal_errors_are() -> None:
    spread = RNG.uniform(1, 20, SHAPE)
    found = spread_quality(spread * RNG.normal(size=SHAPE), spread, ALL)
    assert found.coverage == pytest.approx(0.954, abs=0.005)
    assert found.rank_correlation > 0.4
    assert list(found.error_by_fifth) == sorted(found.error_by_fifth)
    assert found.error_by_fifth[-1] / found.error_by_fifth[0] == pytest.approx(18.1 / 2.9, rel=0.1)


def test_a_spread_that_is_too_small_covers_less_and_keeps_its_order() -> None:
    spread = RNG.uniform(1, 20, SHAPE)
    error = spread * RNG.normal(size=SHAPE)
    whole, half = spread_quality(error, spread, ALL), spread_quality(error, spread / 2, ALL)
    assert half.coverage == pytest.approx(0.683, abs=0.01)
    assert half.rank_correlation == pytest.approx(whole.rank_correlation)


def test_a_flat_spread_has_no_correlation_and_only_the_region_counts() -> None:
    region = ALL.copy()
    region[10:] = False
    error = np.where(region, 1.0, 100.0)
    found = spread_quality(error, np.ones(SHAPE), region)
    assert math.isnan(found.rank_correlation)
    assert found.coverage == 1
    assert found.error_by_fifth == (1, 1, 1, 1, 1)
