import numpy as np
import pytest

from medgan.evaluation.detection import (
    auroc,
    by_subject,
    components,
    dice,
    false_alarm_interval,
    few_false_voxels,
    froc,
    hit,
    region_overlap,
    voxel_average_precision,
)

SHAPE = (12, 12, 12)
EVERYWHERE = np.ones(SHAPE, bool)


def lesion() -> np.ndarray:
    truth = np.zeros(SHAPE, bool)
    truth[3:6, 3:6, 3:6] = True
    return truth


def test_auroc_counts_pairs_and_halves_ties():
    assert auroc([0.0, 1.0], [2.0, 3.0]) == 1
    assert auroc([0.0, 1.0], [0.0, 1.0]) == 0.5
    assert auroc([0.0, 2.0], [1.0]) == 0.5
    assert auroc([1.0], [1.0]) == 0.5


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
    assert hit(found, found)
    assert not hit(found, lesion())


def test_a_free_response_curve_rises_and_a_perfect_map_is_at_one_without_false_parts():
    rng = np.random.default_rng(3)
    healthy = [rng.random(SHAPE) for _ in range(5)]
    truth = lesion()
    perfect = froc(healthy, [(rng.random(SHAPE) + 2 * truth)[truth].max()] * 3)
    assert perfect.at(0.0) == perfect.mean == 1
    poor = froc(healthy, [rng.random(SHAPE)[truth].max() for _ in range(20)])
    assert list(poor.sensitivity) == sorted(poor.sensitivity)
    assert poor.at(0.125) < 0.5 < poor.sensitivity[-1]
    assert poor.false_parts[0] == 0
    assert poor.at(-1.0) == 0


def test_the_binomial_interval_is_exact():
    interval = false_alarm_interval(2, 40)
    assert interval.value == 0.05
    assert interval.low == pytest.approx(0.0061, abs=1e-4)
    assert interval.high == pytest.approx(0.1692, abs=1e-4)


def test_intervals_by_subject_are_wider_than_by_row_where_rows_repeat_themselves():
    rng = np.random.default_rng(0)
    level = rng.standard_normal(20).repeat(10)
    clustered = by_subject([str(i // 10) for i in range(200)], lambda rows: level[rows].mean())
    alone = by_subject([str(i) for i in range(200)], lambda rows: level[rows].mean())
    assert clustered.value == alone.value == pytest.approx(level.mean())
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)
    assert clustered.low < clustered.value < clustered.high
