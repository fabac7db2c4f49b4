import pytest
import torch

from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import coarse_features
from medgan.core.errors import DataError


def healthy(count=60, channels=3, shape=(4, 5, 6), seed=0):
    """Correlated features whose mean varies over positions."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=torch.Generator().manual_seed(9))
    mixing = torch.eye(channels) + 0.3 * mixing
    noise = torch.randn(count, channels, *shape, generator=generator)
    mean = torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(8))
    return mean + torch.einsum("ab,nbxyz->naxyz", mixing, noise)


def test_healthy_scans_lie_about_one_away_and_strange_ones_further():
    density = FeatureDensity.fit(healthy(400).split(7))
    new = density.distance(healthy(50, seed=1))
    assert new.shape == (50, 1, 4, 5, 6)
    assert new.square().mean().item() == pytest.approx(1, rel=0.1)
    strange = healthy(50, seed=1)
    strange[:, :, 2, 2, 2] += 20
    far = density.distance(strange)
    assert far[..., 2, 2, 2].min() > 3 * new.max()
    far[..., 2, 2, 2] = new[..., 2, 2, 2]
    assert torch.allclose(far, new)


def test_with_one_covariance_for_all_positions_it_is_the_textbook_distance():
    x = healthy(300)
    density = FeatureDensity.fit([x], radius=9, shrinkage=0.0)
    deviation = x - x.mean(dim=0)
    rows = deviation.movedim(1, -1).reshape(-1, 3).double()
    precision = torch.linalg.inv(rows.T @ rows / len(rows) * 300 / 299)
    expected = torch.einsum("na,ab,nb->n", rows, precision, rows).div(3).sqrt()
    found = density.distance(x)[:, 0].reshape(-1)
    assert torch.allclose(found.double(), expected, rtol=0.02)


def test_a_direction_in_which_healthy_scans_never_vary_counts_most():
    x = healthy(200, channels=2)
    x[:, 1] = x[:, 0]  # the second follows the first
    density = FeatureDensity.fit([x], shrinkage=0.01)
    along, across = x[:1].clone(), x[:1].clone()
    along += 1
    across[:, 0] += 1
    assert density.distance(across).mean() > 3 * density.distance(along).mean()


def test_batches_do_not_matter_and_fewer_scans_than_channels_are_enough():
    x = healthy(5, channels=8)
    one, many = FeatureDensity.fit([x]), FeatureDensity.fit(x.split(2))
    assert torch.allclose(one.distance(x), many.distance(x), rtol=1e-2, atol=1e-3)
    assert torch.isfinite(one.distance(healthy(3, channels=8, seed=4))).all()


def test_air_around_a_small_anatomy_is_no_obstacle():
    volumes = torch.full((20, 1, 32, 32, 32), -1.0)
    noise = torch.randn(20, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    volumes[:, :, 12:20, 12:20, 12:20] = (0.05 * noise).clamp(-1, 1)
    density = FeatureDensity.fit(coarse_features(volumes).split(3))
    assert density.distance(coarse_features(volumes[:2])).isfinite().all()


def test_coarse_features_of_several_channels_are_those_of_each():
    volumes = torch.rand(2, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together = coarse_features(volumes)
    for channel in range(2):
        alone = coarse_features(volumes[:, channel : channel + 1])
        assert torch.allclose(together[:, channel::2], alone, atol=1e-5)


def test_scans_that_hardly_differ_are_refused_as_such():
    noise = torch.randn(20, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError) as caught:
        FeatureDensity.fit([coarse_features(1e-4 * noise - 1)])
    assert caught.value.code == "E_CONTRAST"


def test_on_large_grids_eight_neighbours_share_a_covariance(generator, monkeypatch):
    features = torch.randn(30, 3, 8, 6, 4, generator=generator)
    features *= torch.linspace(0.5, 2, 8)[:, None, None]
    alone = FeatureDensity.fit([features])
    monkeypatch.setattr("medgan.anomaly.density._LARGE", 100)
    shared = FeatureDensity.fit([features])
    assert len(shared.whitening) == len(alone.whitening) / 8
    each = shared.whitening.reshape(4, 3, 2, 3, 3)
    for axis in range(3):
        each = each.repeat_interleave(2, axis)
    spread = FeatureDensity(shared.mean, each.flatten(0, 2))
    new = torch.randn(2, 3, 8, 6, 4, generator=generator)
    assert torch.allclose(shared.distance(new), spread.distance(new), atol=1e-6)
    again = FeatureDensity.unpacked(*shared.packed())
    assert torch.equal(again.distance(new), shared.distance(new))
    assert (shared.distance(new) - alone.distance(new)).abs().mean() < 0.1
