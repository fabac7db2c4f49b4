import pytest
import torch
from scipy import ndimage

from medgan.anomaly.simple import SIMPLE, Pca, local_features, smoothed

SHAPE = (16, 16, 16)


def healthy(count=30, seed=0):
    """Smooth volumes about a common mean."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(99))
    own = torch.randn(count, 1, *SHAPE, generator=generator)
    return (smoothed(common, 2.0) * 4 + smoothed(own, 2.0)).clamp(-1, 1)


def with_lesion(volumes):
    """A very bright cube; how bright, no healthy scan is."""
    volumes = volumes.clone() * 0.6
    volumes[:, :, 5:8, 5:8, 5:8] = 1.0
    return volumes


@pytest.mark.parametrize("name", SIMPLE)
def test_a_lesion_stands_out_in_every_map(name):
    scorer = SIMPLE[name]()
    scorer.fit(healthy() * 0.6)
    lesioned = with_lesion(healthy(5, seed=1))
    found = scorer.map(-lesioned if name == "dark z-score" else lesioned)
    assert found.shape == (5, 1, *SHAPE)
    inside = found[:, :, 5:8, 5:8, 5:8].mean()
    assert inside > 1.8 * found[:, :, 10:].mean()


@pytest.mark.parametrize("name", SIMPLE)
def test_a_map_is_that_of_the_volume_alone(name):
    scorer = SIMPLE[name]()
    scorer.fit(healthy())
    new = healthy(3, seed=2)
    alone = torch.cat([scorer.map(volume[None]) for volume in new])
    assert torch.allclose(scorer.map(new), alone, atol=1e-5)


def test_principal_components_draw_what_they_were_made_of():
    volumes = healthy(10)
    scorer = Pca(9)
    scorer.fit(volumes)
    assert scorer.map(volumes).max() < 1e-4
    assert scorer.map(healthy(1, seed=3)).mean() > 1e-3


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_smoothing_is_that_of_scipy(sigma):
    volume = torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(volume[0, 1].numpy(), sigma, mode="nearest", truncate=3)
    assert torch.allclose(smoothed(volume, sigma)[0, 1], torch.from_numpy(expected), atol=1e-5)


def test_features_are_twelve_and_finite_on_flat_volumes():
    found = local_features(torch.zeros(2, 1, *SHAPE))
    assert found.shape == (2, 12, *SHAPE)
    assert torch.isfinite(found).all()
