"""Pairs of thick slices and fine scans."""

import numpy as np
import pytest
from scipy import ndimage

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.data.acquisition import Acquisition
from medgan.data.pairs import pairing_of
from medgan.data.pairs.super_resolution import SuperResolution

SHAPE = (32, 32, 32)


def patch(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    smooth = ndimage.gaussian_filter(noise, 1.0)
    return (smooth / np.abs(smooth).max())[None].astype(np.float32)


def pairs(count: int, volume: np.ndarray | None = None):
    pairing, shown = SuperResolution(1), patch() if volume is None else volume
    return [pairing(shown, None, np.random.default_rng(n)) for n in range(count)]


def test_a_source_is_the_blurred_target_and_where_it_was_sampled():
    for pair in pairs(20):
        assert pair.source.shape == (4, *SHAPE)
        assert pair.target.shape == (1, *SHAPE)
        away = [bool(one.any()) for one in pair.source[1:]]
        assert sum(away) == 1  # one axis is coarse
        axis = away.index(True)
        inside = pair.weight[0] > 0
        gap = np.abs(pair.source[0] - pair.target[0])[inside].mean()
        assert 0.005 < gap < np.abs(pair.target[0]).mean()

        def steps(one: np.ndarray, axis: int = axis) -> float:
            return float(np.abs(np.diff(one, axis=axis)).mean())

        assert steps(pair.source[0]) < steps(pair.target[0])


def test_all_axes_and_distances_occur():
    found = [(p.source[1:].any(axis=(1, 2, 3)).argmax(), p.source[1:].max()) for p in pairs(60)]
    assert {axis for axis, _ in found} == {0, 1, 2}
    farthest = [3.5 * most for _, most in found]  # half the distance of the slices
    assert min(farthest) < 1.3
    assert max(farthest) > 2.7


def test_patches_are_mirrored():
    volume = patch()
    mirrored = {
        tuple(bool(np.array_equal(np.flip(volume, axes), pair.target)) for axes in ((), 1, 2, 3))
        for pair in pairs(40, volume)
    }
    assert len(mirrored) > 3


def test_nothing_is_learned_where_nothing_was_seen():
    volume = patch()
    volume[:, :, :, 20:] = np.nan
    for pair in pairs(10, volume):
        share = np.isnan(volume).mean()
        assert (pair.weight == 0).mean() >= share
        assert np.isfinite(pair.source).all()
        assert (pair.target[pair.weight == 0] == -1).mean() > 0.4


def test_nothing_is_learned_beyond_the_outermost_slices():
    for pair in pairs(10):
        planes = [pair.weight[0].any(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        coarse = int(pair.source[1:].any(axis=(1, 2, 3)).argmax())
        assert [bool(one.all()) for one in planes].count(False) <= 1
        assert not planes[coarse][0] or not planes[coarse][-1]


def test_the_source_of_a_new_scan_tells_where_its_slices_are():
    pairing = SuperResolution(1)
    acquisition = Acquisition.simulated(SHAPE, 2, 4.0, 4.0)
    start = acquisition.deconvolved(acquisition.degrade(patch()))
    source = pairing.source(start, acquisition)
    assert np.array_equal(source[0], start[0])
    assert not source[1:3].any()
    assert np.allclose(3.5 * source[3, 0, 0], acquisition.axes[2].offsets, atol=1e-5)
    assert not pairing.source(start)[1:].any()


def test_it_is_the_pairing_of_its_task():
    preprocessing = Preprocessing(spacing=(1, 1, 1), shape=SHAPE, patches=True)
    conversion = Conversion(task="super_resolution", source=(), target=(), noise=False)
    pairing = pairing_of(preprocessing, conversion)
    assert isinstance(pairing, SuperResolution)
    assert (pairing.source_channels, pairing.target_channels, pairing.residual) == (4, 1, True)


@pytest.mark.parametrize("channels", [1, 2])
def test_channels_are_sampled_alike(channels):
    volume = np.concatenate([patch(seed) for seed in range(channels)])
    pair = SuperResolution(channels)(volume, None, np.random.default_rng(0))
    assert pair.source.shape == (channels + 3, *SHAPE)
    assert pair.target.shape == volume.shape
