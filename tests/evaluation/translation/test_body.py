"""The body in made-up scans whose parts are known."""

import numpy as np

from medgan.evaluation.translation.body import body_mask

SHAPE = (40, 36, 20)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    grid = np.indices(SHAPE).astype(float)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2


def leg(x: float) -> np.ndarray:
    grid = np.indices(SHAPE).astype(float)
    return (grid[0] - x) ** 2 + (grid[1] - 16) ** 2 < 7**2


def test_two_legs_are_body_and_a_couch_and_a_speck_are_not() -> None:
    legs = leg(9) | leg(30)
    scan = np.where(legs, 40.0, -1000.0)
    scan[:, 30] = 100.0  # a plate of one voxel
    scan[2:5, 2:5, 2:5] = 40.0
    assert (body_mask(scan, ct=True) == legs).all()


def test_holes_are_filled_even_where_the_edge_of_the_scan_cuts_them() -> None:
    scan = np.where(leg(20), 40.0, -1000.0)
    for z in (10, 0):
        hole = ball((20, 16, z), 3)
        assert body_mask(np.where(hole, -900.0, scan), ct=True)[hole].all()


def test_of_another_image_the_body_is_bright_and_was_seen() -> None:
    scan = np.where(leg(20), 500.0, 3.0)
    scan[:, :, 12:] = np.nan
    found = body_mask(scan, ct=False)
    assert (found[..., :12] == leg(20)[..., :12]).all()
    assert not found[..., 12:].any()


def test_without_any_tissue_there_is_no_body() -> None:
    assert not body_mask(np.full(SHAPE, -1000.0), ct=True).any()
