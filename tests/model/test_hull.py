import numpy as np
import pytest

from medgan.model.hull import remark_on, share_longer


def test_of_random_latents_the_share_that_is_longer_is_uniform():
    latents = np.random.default_rng(0).standard_normal((4000, 64))
    shares = np.array([share_longer(one) for one in latents])
    assert np.quantile(shares, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)


def test_a_long_latent_is_remarked_on_and_a_short_or_usual_one_is_not():
    usual = np.ones(64)
    assert remark_on([usual, 0.1 * usual]) == ""
    assert remark_on([usual, -1.4 * usual]).startswith("a latent of 1.40 times the usual length")
