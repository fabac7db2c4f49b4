import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan.data.patches import patch_about, random_patch

sizes = st.tuples(*[st.integers(4, 24)] * 3)


@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_a_patch_holds_its_centre_and_values_of_the_scan_at_their_places(extent, shape, seed):
    rng = np.random.default_rng(seed)
    volume = np.arange(np.prod(extent), dtype=np.float32).reshape(1, *extent)
    label = volume[0].astype(np.int32)
    centre = np.array([rng.integers(n) for n in extent])
    patch, labels = patch_about(volume, label, centre, shape)
    assert patch.shape == (1, *shape)
    assert labels.shape == shape
    known = np.isfinite(patch[0])
    assert volume[(0, *centre)] in patch[0][known]
    assert np.array_equal(patch[0][known], labels[known])
    assert not labels[~known].any()
    places = np.array(np.unravel_index(patch[0][known].astype(int), extent))
    low = places[:, 0] - np.argwhere(known)[0]
    assert np.array_equal(places.T - low, np.argwhere(known))
    assert known.sum() == np.prod(np.minimum(extent, shape))


def test_patches_lie_about_what_all_channels_saw_and_mostly_about_tissue():
    volume = np.full((2, 32, 32, 32), -1, np.float32)
    volume[:, 20:28, 4:12, 4:12] = 0.5
    volume[1, :, 16:] = np.nan
    rng, tissue = np.random.default_rng(0), 0
    for _ in range(50):
        patch, _ = random_patch(volume, None, (8, 8, 8), rng)
        assert np.isfinite(patch).all(axis=0).any()
        tissue += (patch[0] > 0).any()
    assert tissue > 35


def test_a_scan_that_no_channel_saw_gives_a_patch_without_anything():
    volume = np.full((1, 8, 8, 8), np.nan, np.float32)
    patch, _ = random_patch(volume, None, (4, 4, 4), np.random.default_rng(0))
    assert np.isnan(patch).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_same_generator_gives_the_same_patch(seed):
    volume = np.random.default_rng(0).random((1, 20, 20, 20)).astype(np.float32)
    first, second = (
        random_patch(volume, None, (8, 8, 8), np.random.default_rng(seed))[0] for _ in range(2)
    )
    assert np.array_equal(first, second)
