"""Pairs of a coarse drawing and the real lesion."""

import numpy as np
import pytest

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError
from medgan.data.healing import without_lesions
from medgan.data.pairs.lesions import MARGIN, Lesions

SPACING = (1.0, 1.0, 2.0)
PAIRING = Lesions(SPACING, relative=False)


def nodule(level=-0.7):
    """A ball of 6 mm with a bright middle in noisy lung."""
    steps = np.indices((32, 32, 16)) - np.array([16, 14, 8])[:, None, None, None]
    away = np.linalg.norm(steps * np.array(SPACING)[:, None, None, None], axis=0)
    noise = 0.03 * np.random.default_rng(0).standard_normal(away.shape)
    volume = np.where(away <= 6, 0.4 - 0.05 * away, level) + noise
    return volume.astype(np.float32)[None], (away <= 6).astype(np.int32), away


def test_beyond_the_rim_source_and_target_are_the_scan():
    volume, label, _ = nodule()
    pair = PAIRING(volume, label, np.random.default_rng(0))
    assert pair.source.shape == (2, 32, 32, 16)
    learned = pair.weight[0] > 0
    assert np.array_equal(pair.source[0][~learned], pair.target[0][~learned])
    assert sorted(pair.target.ravel()) == sorted(volume.ravel())
    mask = pair.source[1] > 0
    assert mask.sum() == label.sum()
    assert learned[mask].all()


def test_the_drawing_has_the_profile_of_the_lesion_but_not_its_voxels():
    volume, label, _ = nodule()
    pair = PAIRING(volume, label, np.random.default_rng(1))
    mask = pair.source[1] > 0
    coarse, real = pair.source[0][mask], pair.target[0][mask]
    assert coarse.mean() == pytest.approx(real.mean(), abs=0.06)
    assert np.corrcoef(coarse, real)[0, 1] > 0.7
    assert np.abs(coarse - real).mean() > 0.01


def test_a_patch_without_a_lesion_or_label_map_has_no_weight():
    volume, label, _ = nodule()
    for nothing in (None, np.zeros_like(label)):
        pair = PAIRING(volume, nothing, np.random.default_rng(0))
        assert not pair.weight.any()
        assert (pair.source[1] == -1).all()


def test_what_was_not_seen_is_not_learned():
    volume, label, _ = nodule()
    volume[:, 16:] = np.nan
    pair = PAIRING(volume, label, np.random.default_rng(0))
    assert np.isfinite(pair.source).all()
    assert pair.weight.any()
    assert not pair.weight[0][(pair.target[0] == -1)].any()


def test_a_healed_scan_has_no_lesion_and_is_untouched_around_it():
    volume, label, away = nodule()
    healed = without_lesions(volume[0], label > 0, SPACING, MARGIN)
    assert np.abs(healed[away <= 6].mean() + 0.7) < 0.02
    assert np.array_equal(healed[away > 6 + MARGIN], volume[0][away > 6 + MARGIN])
    assert np.array_equal(without_lesions(volume[0], label < 0, SPACING, 3.0), volume[0])
    everything = np.ones_like(label, bool)
    assert np.array_equal(without_lesions(volume[0], everything, SPACING, 3.0), volume[0])


def test_several_channels_or_no_labels_are_refused():
    conversion = Conversion("lesions", (), (), True)
    grid = {"spacing": SPACING, "shape": (32, 32, 16), "patches": True}
    for settings in ({}, {"labels": (1,), "channels": ("T1w", "T2w")}):
        with pytest.raises(ConfigError, match="E_VALUE"):
            Lesions.of(Preprocessing(**grid, **settings), conversion)
    ct = Preprocessing(**grid, labels=(1,), intensity="ct")
    assert not Lesions.of(ct, conversion).relative
    assert Lesions.of(ct.model_copy(update={"intensity": "mri"}), conversion).relative
