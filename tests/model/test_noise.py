"""Noise as a condition of synthetic scans."""

import numpy as np
import pytest

from medgan.core.config import Condition, Preprocessing
from medgan.data.noise import noise_level
from medgan.model.generation import draw_latent, generate_channels
from tests.kit.models import make_conditioned

LEVELS = tuple(np.linspace(0, 0.1, 21))
NOISE = Condition(name="noise", kind="continuous", mean=0.05, spread=0.02, quantiles=LEVELS)
BY_NOISE = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), labels=(), conditions=(NOISE,))


def pattern(level, seed):
    """What noise adds to a volume in [-1, 1], where it is not clipped."""
    model = make_conditioned(BY_NOISE)
    latent = draw_latent(model, 0, 0, {"noise": level})
    clean = generate_channels(model, latent)
    noisy = generate_channels(model, latent, noise=seed)
    return (noisy - clean)[clean.abs() < 0.5].numpy()


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
def test_noise_follows_what_was_asked_for(level):
    assert pattern(level, 1).std() == pytest.approx(2 * level / 3, rel=0.1)


def test_scans_have_noise_of_their_own_and_always_the_same():
    assert abs(np.corrcoef(pattern(0.05, 1), pattern(0.05, 2))[0, 1]) < 0.1
    model = make_conditioned(BY_NOISE)
    many, alone = model.generate(2, seed=3), model.generate(1, seed=3, first=1)[0]
    assert np.array_equal(many[1].image.data, alone.image.data)
    assert noise_level(alone.image.data) > 0
