import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgan.core.config import WINDOWS
from medgan.core.intensity import IntensityScale

LUNG, SOFT, BONE = (WINDOWS[name] for name in ("lung", "soft tissue", "bone"))
seeds = st.integers(0, 2**32 - 1)
some_windows = st.sampled_from([(LUNG,), (LUNG, SOFT), (SOFT, LUNG, BONE), ((0.0, 80.0), BONE)])


def hounsfield(seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(2, 500, generator=random, dtype=torch.float64) * 4000 - 1500


def windowed(values: torch.Tensor, window: tuple[float, float]) -> torch.Tensor:
    low, high = window
    return 2 * (values.clamp(low, high) - low) / (high - low) - 1


@given(some_windows, seeds)
def test_a_distance_on_the_scale_is_the_mean_of_those_in_the_windows(windows, seed):
    one, other = hounsfield(seed)
    scale = IntensityScale.of_windows(windows)
    distances = [(windowed(one, w) - windowed(other, w)).abs() for w in windows]
    expected = torch.stack(distances).mean(dim=0)
    assert torch.allclose((scale(one) - scale(other)).abs(), expected, atol=1e-12)


@given(some_windows, seeds)
def test_back_in_the_scanners_intensities_nothing_is_lost(windows, seed):
    values = hounsfield(seed)[0]
    scale = IntensityScale.of_windows(windows)
    low, high = min(w[0] for w in windows), max(w[1] for w in windows)
    assert np.allclose(scale.back(scale(values).numpy()), values.clamp(low, high), atol=1e-3)


def test_a_single_window_is_linear_from_end_to_end():
    scale = IntensityScale.of_windows([SOFT])
    assert scale == IntensityScale(SOFT)
    assert scale(torch.tensor([-1000.0, -160, 40, 240, 3000])).tolist() == [-1, -1, 0, 1, 1]


def test_a_stretched_scale_gives_the_values_that_the_gain_gives():
    scale = IntensityScale((100.0, 300.0))
    values = torch.linspace(100, 300, 9)
    expected = (scale(values) * 0.5 + 0.25).clamp(-1, 1)
    assert torch.allclose(scale.stretched(0.5, 0.25)(values), expected)
    with pytest.raises(ValueError, match="linear"):
        IntensityScale.of_windows([LUNG, SOFT]).stretched(2.0, 0.0)
