import numpy as np
import pytest
from scipy import ndimage

from medgan.data.noise import noise_level


def anatomy(rng):
    """A smooth scan of range 1 with a dark rim, and where it has tissue."""
    smooth = ndimage.gaussian_filter(rng.normal(size=(40, 48, 44)), 4)
    smooth = 0.4 + 0.6 * (smooth - smooth.min()) / np.ptp(smooth)
    smooth[:8] = 0.0
    return smooth


@pytest.mark.parametrize("level", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("scale", [1.0, 900.0])
def test_noise_in_tissue_is_measured_in_any_unit(level, scale):
    rng = np.random.default_rng(0)
    clean = anatomy(rng)
    noisy = clean + np.where(clean > 0, rng.normal(size=clean.shape), 0) * level
    low, high = np.percentile(noisy, (0.5, 99.5))
    assert noise_level(scale * noisy - 30) == pytest.approx(level / (high - low), rel=0.05)


def test_a_smooth_scan_has_next_to_none():
    assert noise_level(anatomy(np.random.default_rng(1))) < 0.003


def test_a_scan_without_tissue_or_range_has_none():
    assert noise_level(np.zeros((8, 8, 8))) == 0.0
    sparse = np.zeros((9, 8, 8))
    sparse[::2, ::2, ::2] = 1.0
    assert noise_level(sparse) == 0.0
