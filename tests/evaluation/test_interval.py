import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medgan.evaluation.interval import (
    Interval,
    by_subject,
    median_of_subjects,
    paired_difference,
    proportion,
)


def mean(rows):
    return float(rows.mean())


def test_the_same_gain_everywhere_has_no_doubt_about_it(rng):
    first = rng.normal(0.8, 0.1, (3, 20, 1))
    found, p_value = paired_difference(first, first + 0.02, mean)
    assert found.value == pytest.approx(0.02)
    assert found.low == pytest.approx(0.02)
    assert found.high == pytest.approx(0.02)
    assert p_value < 1e-3


def test_no_difference_at_all(rng):
    first = rng.normal(0.8, 0.1, (3, 20, 1))
    assert paired_difference(first, first, mean) == (Interval(0, 0, 0), 1)


def test_the_order_of_the_two_turns_the_sign(rng):
    first, second = rng.normal(0.8, 0.1, (2, 3, 20, 1))
    there, back = (paired_difference(*p, mean) for p in ((first, second), (second, first)))
    assert there.interval.value == pytest.approx(-back.interval.value)
    assert there.interval.low == pytest.approx(-back.interval.high)
    assert there.p_value == pytest.approx(back.p_value)


@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_the_interval_covers_the_truth_from_three_trainings(spread):
    inside = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        training = random.normal(0, spread, (3, 1, 1))
        subject = random.normal(0, 0.02, (1, 30, 1))
        gap = 0.03 + training + subject + random.normal(0, 0.01, (3, 30, 1))
        first = random.normal(0.8, 0.1, (3, 30, 1))
        found = paired_difference(first, first + gap, mean, 200, seed).interval
        inside += found.low <= 0.03 <= found.high
    assert inside >= 89


def test_one_training_knows_of_subjects_alone_and_one_subject_of_trainings(rng):
    first, second = rng.normal(0.8, 0.1, (2, 1, 20, 1))
    one = paired_difference(first, second, mean).interval
    assert one.low < one.value < one.high
    alone = paired_difference(*rng.normal(0.8, 0.1, (2, 5, 1, 1)), mean).interval
    assert alone.low < alone.value < alone.high
    assert paired_difference(first[:, :1], second[:, :1], mean).interval.low == pytest.approx(
        float(second[0, 0, 0] - first[0, 0, 0])
    )


def test_statistics_that_are_no_mean_are_drawn_as_a_whole(rng):
    first = rng.normal(size=(2, 15, 2))
    found = paired_difference(first, first, lambda rows: float(np.median(rows[:, 1])))
    assert found.interval.value == 0


def test_the_p_value_goes_with_the_interval(rng):
    for shift in np.linspace(0, 0.1, 21):
        first, second = rng.normal(0.8, 0.1, (2, 3, 20, 1))
        found, p_value = paired_difference(first, second + shift, mean)
        assert (p_value < 0.05) == (not found.low <= 0 <= found.high)


def test_the_binomial_interval_is_exact():
    interval = proportion(2, 40)
    assert interval.value == 0.05
    assert interval.low == pytest.approx(0.0061, abs=1e-4)
    assert interval.high == pytest.approx(0.1692, abs=1e-4)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).standard_normal(60)
    interval = by_subject(values)
    error = values.std(ddof=1) / 60**0.5
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_pairs_are_drawn_by_subject_on_both_sides():
    rng = np.random.default_rng(0)
    lesioned, healthy = rng.normal(1, 1, 40), rng.normal(0, 1, 40)
    above = (lesioned[:, None] > healthy).astype(float)
    interval = by_subject(above[None])
    assert interval.value == pytest.approx(
        roc_auc_score(np.repeat([0, 1], [len(healthy), len(lesioned)]), [*healthy, *lesioned])
    )
    assert interval.low < interval.value < interval.high
    rows_alone = above.mean(axis=1)
    assert interval.high - interval.low > by_subject(rows_alone).high - by_subject(rows_alone).low


def test_pairs_that_are_left_out_count_neither_in_the_mean_nor_in_the_interval():
    rng = np.random.default_rng(0)
    pairs = np.repeat(rng.random((1, 12, 1)) > rng.random((1, 1, 12)), 2, axis=0).astype(float)
    pairs[:, range(12), range(12)] = np.nan
    assert by_subject(pairs).value == pytest.approx(pairs[0][~np.eye(12, dtype=bool)].mean())
    certain = np.ones((1, 12, 12))
    certain[0, range(12), range(12)] = np.nan
    assert by_subject(certain) == pytest.approx((1, 1, 1))


def test_equal_metrics_differ_by_nothing_on_the_same_draws():
    values = np.random.default_rng(0).random((3, 20, 20))
    nothing = by_subject(values - values)
    assert nothing.low == nothing.value == nothing.high == 0
    ahead = by_subject(values + 0.01 - values)
    assert ahead.low == pytest.approx(0.01)


def test_a_median_of_subjects_has_an_interval_only_where_there_are_enough():
    values = np.random.default_rng(0).normal(3, 1, 200)
    found = median_of_subjects(np.r_[values, np.nan])
    assert found is not None
    assert found.value == np.median(values)
    assert found.low < 3 < found.high
    assert found.high - found.low < 0.6
    few = median_of_subjects(np.array([1.0, 5.0, np.nan]))
    assert few is not None
    assert few.value == 3
    assert np.isnan(few.low)
    assert median_of_subjects(np.array([np.nan])) is None
