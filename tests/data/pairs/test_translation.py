import itertools

import numpy as np
import pytest

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError
from medgan.data.intensities import intensity_scale
from medgan.data.pairs import pairing_of

GRID = Preprocessing(
    spacing=(2, 2, 2), shape=(16, 16, 16), channels=("T1w", "ct", "pet"), patches=True,
    intensity={"T1w": "mri", "ct": "ct", "pet": "pet"}, unseen={"T1w": 0.0},
)  # fmt: skip
MR_TO_CT = Conversion("translation", ("T1w",), ("ct",), True)


def volume(seed=0, edge=8):
    return np.random.default_rng(seed).uniform(-1, 1, (3, edge, edge, edge)).astype(np.float32)


def test_nothing_is_learned_where_a_channel_was_not_seen():
    shown = volume()
    shown[0] = 0.5
    shown[0, :, :, :3] = np.nan
    for seed in range(10):  # turned or not
        pair = pairing_of(GRID, MR_TO_CT)(shown, None, np.random.default_rng(seed))
        seen = pair.source[0] != -1
        assert np.array_equal(pair.weight[0] > 0, seen)
        assert 0.1 < seen.mean() < 0.7
        assert np.isfinite(pair.source).all()
        assert np.isfinite(pair.target).all()


def test_a_source_says_what_was_seen_of_it():
    shown = volume()
    shown[0, :2] = np.nan
    source = pairing_of(GRID, MR_TO_CT).source(shown[:1])
    assert source.shape == (2, 8, 8, 8)
    assert (source[:, :2] == -1).all()
    assert (source[1, 2:] == 1).all()


def test_source_and_target_are_mirrored_together_and_ct_is_never_rescaled(monkeypatch):
    monkeypatch.setattr("medgan.data.pairs.translation._MOVED", 0)
    ct_to_pet = Conversion("translation", ("ct",), ("pet",), False)
    pairing, shown, found = pairing_of(GRID, ct_to_pet), volume(), set()
    ways = list(itertools.product((1, -1), repeat=3))
    for seed in range(40):
        pair = pairing(shown, None, np.random.default_rng(seed))
        (way,) = (
            w for w in ways if np.array_equal(pair.source[0], shown[1, :: w[0], :: w[1], :: w[2]])
        )
        assert np.array_equal(pair.target[0], shown[2, :: way[0], :: way[1], :: way[2]])
        found.add(way)
    assert len(found) >= 7


def test_source_and_target_are_turned_and_zoomed_together(monkeypatch):
    monkeypatch.setattr("medgan.data.pairs.translation._MOVED", 1)
    ct_to_pet = Conversion("translation", ("ct",), ("pet",), False)
    shown = volume(edge=16)
    shown[2] = shown[1]
    pair = pairing_of(GRID, ct_to_pet)(shown, None, np.random.default_rng(0))
    assert np.array_equal(pair.source, pair.target)
    assert not np.isin(pair.source[pair.weight > 0], shown).all()
    assert pair.weight.mean() > 0.5


def test_mri_is_given_with_another_contrast_and_the_scan_stays_as_it_was():
    shown = volume()
    before = shown.copy()
    pairing = pairing_of(GRID, MR_TO_CT)
    first, second = (pairing(shown, None, np.random.default_rng(seed)) for seed in (0, 0))
    assert np.array_equal(first.source, second.source)
    assert not np.array_equal(first.source[0], shown[0])
    assert np.array_equal(shown, before)


def test_channels_that_scans_do_not_have_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"E_CHANNEL T2w: no channel of the scans.*T1w, ct, pet"):
        pairing_of(GRID, Conversion("translation", ("T2w",), ("ct",), True))


def test_mri_with_units_is_scaled_by_them_and_given_as_it_is(monkeypatch):
    monkeypatch.setattr("medgan.data.pairs.translation._MOVED", 0)
    grid = GRID.model_copy(update={"ranges": {"T1w": (0.0, 1500.0)}})
    assert intensity_scale(np.array([5.0, 9.0]), grid, "T1w").intensities == (0.0, 1500.0)
    shown, pairing = volume(), pairing_of(grid, MR_TO_CT)
    assert np.isin(pairing(shown, None, np.random.default_rng(0)).source[0], shown[0]).all()
