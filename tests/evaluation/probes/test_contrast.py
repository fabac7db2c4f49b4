"""Random contrasts of scans, and images drawn from maps of tissues."""

import numpy as np
import pytest

from medgan.evaluation.probes.contrast import (
    PARTS,
    biased,
    drawn,
    raised,
    recontrasted,
    scanned,
    sliced,
    tissues,
)

SIZE = (16, 20, 18)


def head(seed=0):
    """Two tissues side by side and a ball of a third, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SIZE)
    ball = (x - 8) ** 2 + (y - 10) ** 2 + (z - 9) ** 2 < 30
    image = np.where(ball, 0.1, np.where(x < 8, 0.4, -0.4)) + 0.02 * rng.standard_normal(SIZE)
    return image.astype(np.float32)


def test_tissues_follow_the_intensity_not_the_labels():
    image = head()
    parts = tissues(image, seed=0)
    assert set(np.unique(parts)) == set(range(PARTS))
    for part in range(PARTS):
        inside = image[parts == part]
        assert inside.std() < 0.5 * image.std()
    assert np.array_equal(parts, tissues(image, seed=0))
    assert np.array_equal(parts, tissues(2 * image, seed=0))


def test_a_drawn_image_shows_tissues_in_either_order_and_from_black_to_white():
    image = head()
    parts, brighter = (np.indices(SIZE)[0] > 7).astype(int), set()
    for seed in range(8):
        seen = drawn(image, parts, np.random.default_rng(seed))
        assert (seen.min(), seen.max()) == (-1, 1)
        brighter.add(bool(seen[:6].mean() < seen[10:].mean()))
    assert brighter == {True, False}


def test_a_drawn_image_keeps_the_texture_of_a_tissue_but_not_its_intensity():
    image = head()
    parts = tissues(image, seed=0)
    seen = [drawn(image, parts, np.random.default_rng(seed)) for seed in range(30)]
    whole = [np.corrcoef(image.ravel(), one.ravel())[0, 1] for one in seen]
    assert abs(np.mean(whole)) < 0.3
    assert min(whole) < -0.3 < 0.3 < max(whole)
    ramp, flat = np.indices(SIZE)[1] / 10 - 1, np.zeros(SIZE, int)
    within = [
        np.corrcoef(ramp.ravel(), drawn(ramp, flat, np.random.default_rng(seed)).ravel())[0, 1]
        for seed in range(10)
    ]
    assert min(within) < -0.9
    assert max(within) > 0.9


def test_a_contrast_is_kept_inverted_or_follows_a_curve():
    image, rng = (
        np.linspace(-1, 1, 480, dtype=np.float32).reshape(6, 8, 10),
        np.random.default_rng(0),
    )
    for _ in range(6):
        seen = recontrasted(image, rng, curves=False)
        assert np.array_equal(seen, image) or np.array_equal(seen, -image)
    seen = [recontrasted(image, rng) for _ in range(40)]
    curved = [one for one in seen if not np.allclose(np.abs(one), np.abs(image))]
    assert 6 <= len(curved) <= 20
    for one in curved:
        assert np.abs(np.diff(one.ravel())).max() < 0.03  # voxels that were alike stay alike
    falls = [
        np.diff(one.ravel()).min() < -0.001 < 0.001 < np.diff(one.ravel()).max() for one in curved
    ]
    assert all(falls)  # but the order of tissues changes


def test_what_a_scanner_adds_stays_within_the_range_and_follows_its_seed():
    image = head()
    seen = [scanned(image, np.random.default_rng(seed)) for seed in (0, 0, 1, 2)]
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[2], seen[3])
    assert max(np.abs(one).max() for one in seen) <= 1


def test_a_gamma_keeps_black_and_white_and_is_undone_by_its_inverse():
    image = np.linspace(-1, 1, 24).reshape(2, 3, 4)
    seen = raised(image, 3.0)
    assert (seen.min(), seen.max()) == (-1, 1)
    assert (seen[image < 1] <= image[image < 1]).all()
    assert raised(seen, 1 / 3) == pytest.approx(image)


def test_a_bias_field_is_smooth_and_leaves_air_black():
    field = biased(np.zeros(SIZE), 0.5, np.random.default_rng(0)) + 1
    assert field.max() / field.min() > 1.5
    assert max(np.abs(np.diff(np.log(field), axis=axis)).max() for axis in range(3)) < 0.5
    assert (biased(-np.ones(SIZE), 0.5, np.random.default_rng(0)) == -1).all()


def test_thick_slices_lose_what_is_thinner_than_they_are_along_their_axis_alone():
    x, y, _ = np.indices(SIZE)
    along, across = np.where(x % 2, 1.0, -1.0), np.where(y % 2, 1.0, -1.0)
    assert np.abs(sliced(along, 0, 4.0)).max() < 0.2
    assert sliced(across, 0, 4.0) == pytest.approx(across)
