import numpy as np
import pytest

from medgan.evaluation.paired import paired_difference


def mean(rows):
    return float(rows.mean())


def test_the_same_gain_everywhere_has_no_doubt_about_it(rng):
    first = rng.normal(0.8, 0.1, (3, 20, 1))
    found = paired_difference(first, first + 0.02, mean)
    assert found.value == pytest.approx(0.02)
    assert found.low == pytest.approx(0.02)
    assert found.high == pytest.approx(0.02)
    assert found.p_value < 1e-3


def test_no_difference_at_all(rng):
    first = rng.normal(0.8, 0.1, (3, 20, 1))
    assert paired_difference(first, first, mean) == (0, 0, 0, 1)


def test_the_order_of_the_two_turns_the_sign(rng):
    first, second = rng.normal(0.8, 0.1, (2, 3, 20, 1))
    there, back = (paired_difference(*p, mean) for p in ((first, second), (second, first)))
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)
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
        found = paired_difference(first, first + gap, mean, 200, seed)
        inside += found.low <= 0.03 <= found.high
    assert inside >= 89


def test_one_training_knows_of_subjects_alone_and_one_subject_of_trainings(rng):
    first, second = rng.normal(0.8, 0.1, (2, 1, 20, 1))
    one = paired_difference(first, second, mean)
    assert one.low < one.value < one.high
    alone = paired_difference(*rng.normal(0.8, 0.1, (2, 5, 1, 1)), mean)
    assert alone.low < alone.value < alone.high
    assert paired_difference(first[:, :1], second[:, :1], mean).low == pytest.approx(
        float(second[0, 0, 0] - first[0, 0, 0])
    )


def test_statistics_that_are_no_mean_are_drawn_as_a_whole(rng):
    first = rng.normal(size=(2, 15, 2))
    found = paired_difference(first, first, lambda rows: float(np.median(rows[:, 1])))
    assert found.value == 0


def test_the_p_value_goes_with_the_interval(rng):
    for shift in np.linspace(0, 0.1, 21):
        first, second = rng.normal(0.8, 0.1, (2, 3, 20, 1))
        found = paired_difference(first, second + shift, mean)
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
