import numpy as np
import pytest
from scipy import ndimage

from medgan.evaluation.detection.metrics import (
    FALSE_PARTS,
    components,
    dice,
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
