import pytest
import torch

from medgan.evaluation.probes.plausibility import (
    dice_by_volume,
    foreground_volumes,
    label_volumes,
    outlier_bounds,
    range_bounds,
)
from medgan.evaluation.probes.segmentation import dice_by_label


def test_label_volumes_of_a_block_are_its_voxels_times_their_size():
    classes = torch.zeros(2, 8, 8, 8, dtype=torch.long)
    classes[0, :2, :3, :4] = 1
    classes[1, 4:, 4:, 4:] = 2
    assert label_volumes(classes, 2, 1.5).tolist() == [[36.0, 0.0], [0.0, 96.0]]
    assert label_volumes(classes, 0, 1.5).shape == (2, 0)


def test_the_foreground_is_what_is_brighter_than_air():
    images = torch.full((1, 1, 4, 4, 4), -1.0)
    images[..., :2] = 0.0
    assert foreground_volumes(images, -0.9, 2.0).tolist() == [64.0]


def test_dice_of_a_volume_is_one_for_itself_symmetric_and_agrees_with_dice_by_label(generator):
    a = torch.randint(3, (5, 6, 6, 6), generator=generator)
    b = torch.randint(3, (5, 6, 6, 6), generator=generator)
    assert dice_by_volume(a, a, 2).tolist() == [1.0] * 5
    assert torch.equal(dice_by_volume(a, b, 2), dice_by_volume(b, a, 2))
    assert dice_by_volume(a, b, 2).mean() == pytest.approx(float(dice_by_label(a, b, 2).mean()))


def test_dice_counts_a_label_that_one_side_lacks_as_zero_and_leaves_out_one_that_both_lack():
    a, b = torch.zeros(1, 4, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4, 4, dtype=torch.long)
    assert dice_by_volume(a, b, 2).tolist() == [1.0]
    a[:, :2], b[:, :2] = 1, 1
    assert dice_by_volume(a, b, 2).tolist() == [1.0]
    b[:, 3] = 2
    assert dice_by_volume(a, b, 2).tolist() == [0.5]


def test_outlier_bounds_of_a_normal_sample_are_its_deviations_and_one_outlier_moves_them_little(
    generator,
):
    values = torch.randn(20_001, generator=generator, dtype=torch.float64) * 2 + 5
    low, high = outlier_bounds(values, 3.0)
    assert low == pytest.approx(-1, abs=0.15)
    assert high == pytest.approx(11, abs=0.15)
    spoilt = values.clone()
    spoilt[:100] = 1e6
    assert outlier_bounds(spoilt, 3.0) == pytest.approx((low, high), abs=0.1)


def test_range_bounds_hold_the_group_and_widen_with_the_margin():
    values = torch.linspace(100, 200, 101, dtype=torch.float64)
    assert range_bounds(values, 0.0) == pytest.approx((101, 199))
    assert range_bounds(values, 0.25) == pytest.approx((101 / 1.25, 199 * 1.25))
