from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medgan.networks.metrics import (
    band_features,
    clipped_share,
    dark_share,
    diversity,
    kernel_distance,
)

SHAPE = (16, 24, 16)


def scans(count, seed, modes=0):
    """Smooth random volumes with a little texture; with `modes`, copies of that many."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.5 * torch.randn(modes or count, 1, 4, 6, 4, generator=generator)
    if modes:
        coarse = coarse.repeat(-(-count // modes), 1, 1, 1, 1)[:count]
    fine = 0.05 * torch.randn(count, 1, *SHAPE, generator=generator)
    return F.interpolate(coarse, size=SHAPE, mode="trilinear") + fine


def slow_kernel_distance(real, fake):
    """KID as the paper writes it: two loops over pairs and the mean over all others."""
    both = np.concatenate([real, fake])
    spread = both.std(axis=0, ddof=1)
    spread[spread < 1e-8] = 1
    real, fake = (real - both.mean(axis=0)) / spread, (fake - both.mean(axis=0)) / spread

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def within(x):
        pairs = [kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
        return sum(pairs) / len(pairs)

    across = [kernel(a, b) for a in real for b in fake]
    return within(real) + within(fake) - 2 * sum(across) / len(across)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 9), (8, 3)])
def test_kernel_distance_agrees_with_a_loop_over_pairs(n, m, generator):
    real = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    fake = 2 * torch.randn(m, 6, generator=generator, dtype=torch.float64) + 0.5
    real[:, 0] = fake[:, 0] = 3.0
    expected = slow_kernel_distance(real.numpy(), fake.numpy())
    assert kernel_distance(real, fake).item() == pytest.approx(expected)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (8, 24), (24, 8)])
def test_kernel_distance_of_two_samples_of_one_distribution_is_zero_on_average(n, m):
    estimates = []
    for seed in range(300):
        sample = torch.randn(n + m, 4, generator=torch.Generator().manual_seed(seed)).double()
        estimates.append(kernel_distance(sample[:n], sample[n:]).item())
    error = np.std(estimates) / len(estimates) ** 0.5
    assert abs(np.mean(estimates)) < 3.5 * error
    assert error < 0.1
    assert min(estimates) < 0


def test_kernel_distance_over_all_splits_of_a_set_averages_to_zero_exactly():
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    estimates = []
    for chosen in combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        estimates.append(kernel_distance(points[list(chosen)], points[rest]).item())
    assert np.mean(estimates) == pytest.approx(0, abs=1e-12)
    assert np.std(estimates) > 0.1


def test_kernel_distance_is_symmetric_and_blind_to_order_and_units(generator):
    real = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    fake = torch.randn(9, 5, generator=generator, dtype=torch.float64) + 1
    distance = kernel_distance(real, fake)
    assert torch.allclose(kernel_distance(fake, real), distance)
    assert torch.allclose(kernel_distance(real.flip(0), fake.roll(4, 0)), distance)
    units, zero = torch.tensor([1e-3, 1.0, 5.0, 1e4, 0.1]).double(), 7.0
    assert torch.allclose(kernel_distance(real * units + zero, fake * units + zero), distance)


@pytest.mark.slow
def test_kernel_distance_of_a_shifted_sample_hardly_depends_on_its_size():
    means = []
    for n in (16, 96):
        estimates = [
            kernel_distance(
                *torch.randn(2, n, 16, generator=torch.Generator().manual_seed(seed))
                + torch.tensor([0.0, 0.7])[:, None, None]
            ).item()
            for seed in range(4800 // n)
        ]
        means.append(np.mean(estimates))
    assert means[0] == pytest.approx(means[1], rel=0.15)
    assert means[0] > 1


def distances(*fakes, real=None):
    real = band_features(scans(32, 0) if real is None else real)
    return [kernel_distance(real, band_features(fake)).item() for fake in fakes]


def test_kernel_distance_grows_with_a_shift_of_intensity():
    fresh = scans(32, 1)
    grown = distances(*(fresh + shift for shift in (0.0, 0.1, 0.2, 0.4, 0.8)))
    assert grown == sorted(grown)
    assert grown[-1] > grown[0] + 0.5


def test_kernel_distance_grows_with_noise():
    fresh = scans(32, 1)
    noise = torch.randn(fresh.shape, generator=torch.Generator().manual_seed(9))
    grown = distances(*(fresh + amount * noise for amount in (0.0, 0.02, 0.05, 0.1, 0.3)))
    assert grown == sorted(grown)
    assert grown[-1] > grown[0] + 0.5


def test_kernel_distance_grows_with_blur():
    fresh = scans(32, 1)
    blurred = [fresh]
    for _ in range(3):
        blurred.append(F.avg_pool3d(blurred[-1], 3, stride=1, padding=1, count_include_pad=False))
    grown = distances(*blurred)
    assert grown == sorted(grown)
    assert grown[-1] > grown[0] + 0.5


def test_kernel_distance_grows_as_modes_are_lost():
    grown = distances(*(scans(32, 1, modes) for modes in (32, 8, 3, 1)))
    assert grown == sorted(grown)
    assert grown[-1] > grown[0] + 0.5


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 48, 32), (13, 18, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_band_features_have_64_cells_a_band_and_channel(shape, channels, generator):
    volume = torch.randn(2, channels, *shape, generator=generator)
    for bands in (1, 2, 3):
        features = band_features(volume, bands)
        assert features.shape == (2, (bands + 1) * channels * 64)
        assert torch.isfinite(features).all()


def test_band_features_of_a_constant_are_no_texture_and_its_intensity():
    features = band_features(torch.full((1, 1, 16, 48, 32), -0.3)).unflatten(1, (4, 64))
    assert torch.allclose(features[:, :3], torch.zeros(()), atol=1e-6)
    assert torch.allclose(features[:, 3], torch.tensor(-0.3))


def test_band_features_of_a_volume_do_not_depend_on_the_batch(generator):
    volume = torch.randn(3, 1, 16, 24, 16, generator=generator)
    alone = torch.cat([band_features(v[None]) for v in volume])
    assert torch.allclose(band_features(volume), alone, atol=1e-6)


def test_the_first_band_holds_the_finest_texture_at_its_place():
    volume = torch.zeros(1, 1, 32, 32, 32)
    volume[..., 16:, 16:, 16:] = torch.tensor([1.0, -1.0]).repeat(8)
    finest, second, _, rest = band_features(volume)[0].unflatten(0, (4, 4, 4, 4))
    assert finest[2:, 2:, 2:].min() > 0.9
    assert finest[:2].max() < 0.05
    assert finest.max() > 10 * second.max()
    assert rest.abs().max() < 0.05


def test_diversity_is_the_mean_absolute_difference_over_pairs():
    volume = torch.tensor([0.0, 1.0, 5.0]).view(3, 1, 1, 1, 1).expand(3, 1, 4, 3, 2)
    assert diversity(volume).item() == pytest.approx((1 + 5 + 4) / 3)


def test_diversity_agrees_with_a_loop_and_is_blind_to_order(generator):
    volume = torch.randn(5, 2, 3, 4, 5, generator=generator)
    pairs = [(volume[i] - volume[j]).abs().mean() for i in range(5) for j in range(i)]
    assert diversity(volume).item() == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-5)
    assert torch.allclose(diversity(volume.flip(0)), diversity(volume))
    assert torch.allclose(diversity(3 * volume + 1), 3 * diversity(volume), rtol=1e-4)


def test_diversity_of_copies_is_zero(generator):
    volume = torch.randn(1, 1, 4, 4, 4, generator=generator)
    assert diversity(volume.expand(4, 1, 4, 4, 4)).item() == 0


def test_the_dark_share_counts_dark_voxels_of_the_brain_alone():
    volume = torch.full((2, 1, 10, 10, 10), -1.0)
    volume[:, :, :8] = 0.2
    volume[0, :, :2] = -0.5
    volume[1, :, :4] = -0.5
    assert dark_share(volume).tolist() == pytest.approx([0.25, 0.5])
    assert dark_share(volume, threshold=-0.6).tolist() == [0, 0]
    assert dark_share(torch.full((1, 1, 4, 4, 4), -1.0)).tolist() == [0]


def test_clipped_share_counts_what_real_volumes_leave_inside():
    real = torch.zeros(2, 1, 4, 4, 4)
    real[:, :, 0] = -1
    fake = real.clone()
    assert clipped_share(fake, real) == 0
    fake[:] = 1
    assert clipped_share(fake, real) == 1
    fake[:, :, :, 2:] = 0
    assert clipped_share(fake, real) == pytest.approx((0.5 - 0.25) / 0.75)
    assert clipped_share(torch.zeros_like(real), real) == 0
