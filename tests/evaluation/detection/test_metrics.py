import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from medgan.evaluation.detection.metrics import (
    FALSE_PARTS,
    by_subject,
    components,
    dice,
    false_alarm_interval,
    few_false_parts,
    few_false_voxels,
    region_overlap,
    voxel_average_precision,
)

SHAPE = (12, 12, 12)
EVERYWHERE = np.ones(SHAPE, bool)


def lesion() -> np.ndarray:
    truth = np.zeros(SHAPE, bool)
    truth[3:6, 3:6, 3:6] = True
    return truth


def test_average_precision_is_one_when_perfect_and_the_prevalence_by_chance():
    truth = lesion()
    assert voxel_average_precision(truth.astype(float), truth, EVERYWHERE) == 1
    noise = np.random.default_rng(0).random(SHAPE)
    assert voxel_average_precision(noise, truth, EVERYWHERE) == pytest.approx(27 / 1728, abs=0.02)
    half = np.zeros(SHAPE, bool)
    half[:6] = True
    chance = voxel_average_precision(np.zeros(SHAPE), truth, half)
    assert chance == pytest.approx(27 / 864)


def test_dice_of_halves_and_of_nothing():
    truth = lesion()
    found = truth.copy()
    found[3] = False
    assert dice(found, truth) == pytest.approx(2 * 18 / 45)
    assert dice(~EVERYWHERE, ~EVERYWHERE) == 1
    assert dice(~EVERYWHERE, truth) == 0


def test_region_overlap_is_one_when_perfect_and_half_the_limit_by_chance():
    truth = lesion()
    thresholds = few_false_voxels(np.random.default_rng(1).random(200_000))
    assert region_overlap(truth * 2.0, truth, thresholds) == 1
    wide = np.ones(SHAPE, bool)
    noise = np.random.default_rng(2).random(SHAPE)
    assert region_overlap(noise, wide, thresholds) == pytest.approx(0.025, abs=0.005)


def test_parts_that_touch_at_a_corner_are_one():
    found = np.zeros(SHAPE, bool)
    found[0, 0, 0] = found[1, 1, 1] = found[9, 9, 9] = True
    assert components(found) == 2


def test_thresholds_fall_as_more_false_parts_are_allowed_and_keep_to_them():
    rng = np.random.default_rng(3)
    healthy = [ndimage.gaussian_filter(rng.random((24, 24, 24)), 1.5) for _ in range(5)]
    thresholds = few_false_parts(healthy)
    assert list(thresholds) == sorted(thresholds, reverse=True)
    for most, threshold in zip(FALSE_PARTS, thresholds, strict=True):
        assert np.mean([components(m > threshold) for m in healthy]) <= most
    assert np.mean([components(m > thresholds[-1]) for m in healthy]) > 2


def test_the_binomial_interval_is_exact():
    interval = false_alarm_interval(2, 40)
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
    assert vars(by_subject(certain)) == pytest.approx({"value": 1, "low": 1, "high": 1})


def test_equal_figures_differ_by_nothing_on_the_same_draws():
    values = np.random.default_rng(0).random((3, 20, 20))
    nothing = by_subject(values - values)
    assert nothing.low == nothing.value == nothing.high == 0
    ahead = by_subject(values + 0.01 - values)
    assert ahead.low == pytest.approx(0.01)
