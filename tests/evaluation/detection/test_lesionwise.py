import numpy as np
import pytest

from medgan.evaluation.detection.lesionwise import SIZES, find_lesions, size_of


def box(*corners: int) -> np.ndarray:
    mask = np.zeros((20, 20, 20), bool)
    x, y, z, size = corners
    mask[x : x + size, y : y + size, z : z + size] = True
    return mask


def test_of_two_lesions_one_is_found():
    truth = box(2, 2, 2, 4) | box(12, 12, 12, 2)
    found = find_lesions(box(5, 5, 5, 3), truth, 1000.0)
    assert sorted(zip(found.millilitres, found.found, strict=True)) == [(8.0, False), (64.0, True)]
    assert found.false_alarms == 0


def test_parts_that_touch_no_lesion_are_false_alarms_and_neighbours_are_not():
    truth = box(2, 2, 2, 4)
    beside, away, further = box(6, 2, 2, 2), box(12, 2, 2, 2), box(2, 12, 12, 3)
    found = find_lesions(beside | away | further, truth, 500.0)
    assert found.found == (False,)
    assert found.false_alarms == 2
    assert found.false_millilitres == pytest.approx((8 + 27) / 2)


def test_lesions_that_meet_at_a_corner_are_one():
    assert len(find_lesions(box(0, 0, 0, 1), box(2, 2, 2, 3) | box(5, 5, 5, 3), 1.0).found) == 1


def test_without_lesions_every_part_is_a_false_alarm():
    found = find_lesions(box(1, 1, 1, 2) | box(9, 9, 9, 2), np.zeros((20, 20, 20), bool), 1.0)
    assert found == ((), (), 2, 0.016)


def test_nothing_above_the_threshold_finds_nothing():
    found = find_lesions(np.zeros((20, 20, 20), bool), box(2, 2, 2, 4), 1.0)
    assert found == ((0.064,), (False,), 0, 0.0)


def test_sizes_begin_at_their_lower_limit():
    names = [size_of(ml) for limit in (0.1, 1.0, 10.0) for ml in (limit - 1e-6, limit)]
    small, medium, large, largest = SIZES
    assert names == [small, medium, medium, large, large, largest]
    assert SIZES == ("below 0.1 ml", "0.1 to 1 ml", "1 to 10 ml", "10 ml or more")
