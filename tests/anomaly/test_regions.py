import numpy as np
import pytest

from medgan.anomaly.regions import find_regions

AFFINE = np.array([[0, -2.0, 0, 10], [3.0, 0, 0, -5], [0, 0, 1.5, 7], [0, 0, 0, 1.0]])


def two_spots():
    score_map = np.zeros((20, 24, 16), np.float32)
    score_map[3:6, 4:7, 5:8] = 4.0
    score_map[4, 5, 6] = 9.0
    score_map[14, 15, 10] = 12.0
    return score_map


def test_regions_come_highest_peak_first_with_volume_and_place():
    numbered, regions = find_regions(two_spots(), 3.0, AFFINE)
    one, two = regions
    assert (one.number, one.peak, two.number, two.peak) == (1, 12.0, 2, 9.0)
    assert (one.volume_mm3, two.volume_mm3) == pytest.approx((9.0, 27 * 9.0))
    assert two.mean == pytest.approx((26 * 4 + 9) / 27)
    world = AFFINE @ [4, 5, 6, 1]
    assert two.peak_mm == two.centre_mm == pytest.approx(tuple(world[:3]))
    assert numbered[14, 15, 10] == 1
    assert (numbered == 2).sum() == 27
    assert (numbered != 0).sum() == 28


def test_a_centre_leans_to_where_the_map_is_higher():
    score_map = np.zeros((10, 10, 10))
    score_map[2, 5, 5], score_map[3, 5, 5] = 2.0, 4.0
    _, (region,) = find_regions(score_map, 1.0, np.eye(4))
    assert region.centre_mm == pytest.approx((2.75, 5, 5))


def test_parts_that_touch_at_a_corner_are_one_region():
    score_map = np.zeros((5, 5, 5))
    score_map[1, 1, 1] = score_map[2, 2, 2] = 1.0
    assert len(find_regions(score_map, 0.5, np.eye(4))[1]) == 1


def test_small_parts_are_left_out_and_only_the_highest_are_kept():
    assert [r.peak for r in find_regions(two_spots(), 3.0, AFFINE, smallest_mm3=10.0)[1]] == [9.0]
    numbered, regions = find_regions(two_spots(), 3.0, AFFINE, most=1)
    assert [r.peak for r in regions] == [12.0]
    assert (numbered != 0).sum() == 1


def test_nothing_above_the_threshold_is_no_region():
    numbered, regions = find_regions(two_spots(), 20.0, AFFINE)
    assert regions == []
    assert not numbered.any()


def test_a_region_is_named_after_the_tissue_that_most_of_it_lies_in():
    labels = np.zeros((20, 24, 16), int)
    labels[4:6] = 2
    labels[3] = 1
    _, regions = find_regions(two_spots(), 3.0, AFFINE, label_map=labels, names={2: "posterior"})
    assert [r.name for r in regions] == ["background", "posterior"]
    _, regions = find_regions(two_spots(), 3.0, AFFINE, label_map=labels)
    assert regions[1].name == "2"
