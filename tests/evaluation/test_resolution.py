"""Sharpness, contrast of lesions and invented lesions of restored scans."""

import numpy as np
import pytest
from scipy import ndimage

from medgan.evaluation.resolution import contrast_kept, edge_sharpness, invented

EVERYWHERE = np.ones((24, 24, 24), bool)


def scan(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(24, 24, 24))
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return (smooth / np.abs(smooth).max()).astype(np.float32)


def ball(radius: float, centre: int = 12) -> np.ndarray:
    return (np.indices((24, 24, 24)) - centre).__pow__(2).sum(axis=0) <= radius**2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_truth_is_as_sharp_as_itself_and_half_its_contrast_half_as_sharp(axis):
    assert edge_sharpness(scan(), scan(), axis, EVERYWHERE) == pytest.approx(1)
    assert edge_sharpness(0.5 * scan() + 0.2, scan(), axis, EVERYWHERE) == pytest.approx(0.5)


def test_blur_along_the_axis_makes_edges_less_sharp_and_noise_does_not_make_them_sharper():
    along = ndimage.gaussian_filter1d(scan(), 2, axis=1)
    assert edge_sharpness(along, scan(), 1, EVERYWHERE) < 0.6
    noisy = scan() + np.random.default_rng(1).normal(0, 0.05, (24, 24, 24))
    assert edge_sharpness(noisy, scan(), 1, EVERYWHERE) == pytest.approx(1, abs=0.05)


def test_sharpness_is_that_of_the_region():
    image = np.where(np.arange(24)[:, None, None] < 12, scan(), 0.3 * scan())
    half = np.zeros_like(EVERYWHERE)
    half[13:] = True
    assert edge_sharpness(image, scan(), 2, half) == pytest.approx(0.3)


@pytest.mark.parametrize("strength", [-0.4, 0.6])
def test_contrast_kept_is_the_share_of_the_change_that_is_left(strength):
    lesion, healthy = ball(4), scan()
    change = strength * lesion
    assert contrast_kept(healthy, healthy + change, change, lesion) == pytest.approx(1, abs=1e-5)
    seen = healthy + 0.7 * change
    assert contrast_kept(healthy, seen, change, lesion) == pytest.approx(0.7, abs=1e-5)
    assert contrast_kept(healthy, healthy - change, change, lesion) == pytest.approx(-1, abs=1e-5)


def test_balls_that_are_not_there_are_counted_dark_or_bright():
    more = scan() + 0.8 * ball(4, 6) - 0.8 * ball(4, 17)
    assert invented(more, scan(), EVERYWHERE) == 2
    assert invented(scan(), scan(), EVERYWHERE) == 0
    assert invented(more, scan(), ball(6, 6)) == 1


def test_small_and_faint_changes_are_none():
    assert invented(scan() + 0.15 * ball(5), scan(), EVERYWHERE) == 0
    assert invented(scan() + 0.6 * ball(1), scan(), EVERYWHERE) == 0
