import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm

from medgan.evaluation.sets.fidelity import (
    frechet_distance,
    frechet_extrapolated,
    frequencies,
    histogram_distance,
    histograms,
    label_volumes,
    power_spectra,
    principal,
    rbf_distance,
    spectrum_distance,
    tissue_volumes,
    volume_distance,
)
from tests.kit.volumes import phantom_volumes


def normal(count, seed, shift=0.0, width=4):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=random, dtype=torch.float64) + shift


def test_the_frechet_distance_is_that_of_the_textbook_formula():
    real, fake = normal(30, 0), 2 * normal(20, 1, 0.3)
    a, b = (np.cov(x.numpy(), rowvar=False) for x in (real, fake))
    shift = (real.mean(0) - fake.mean(0)).square().sum()
    expected = float(shift) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_a_set_from_itself_moved_is_the_square_of_the_way():
    real = normal(12, 0, width=40)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(real, real + 0.5) == pytest.approx(40 * 0.25)


def test_the_frechet_distance_of_equal_distributions_falls_with_n_and_extrapolates_to_nothing():
    found = frechet_extrapolated(normal(400, 0), normal(400, 1), [25, 50, 100, 200, 400], 10)
    assert list(found.values) == sorted(found.values, reverse=True)
    assert found.explained > 0.97
    assert abs(found.at_infinity) < 0.05


def test_extrapolation_keeps_a_true_difference():
    found = frechet_extrapolated(normal(400, 0), normal(400, 1, 0.5), [25, 50, 100, 200, 400], 10)
    assert found.at_infinity == pytest.approx(1.0, abs=0.25)


def test_principal_components_keep_distances_where_there_are_enough_of_them():
    real, fake = normal(10, 0), normal(8, 1)
    turned = principal(real, fake, 4)
    assert torch.allclose(torch.cdist(*turned), torch.cdist(real, fake))
    spread = torch.cat(principal(real, fake, 2)).var(dim=0)
    assert spread[0] >= spread[1]


def test_the_gaussian_discrepancy_of_two_far_clouds_follows_from_their_pairs():
    real, fake = torch.zeros(4, 1), torch.full((4, 1), 10.0)
    # 12 pairs within lie at 0, 16 between at 10, so the median is 10 and the kernel exp(-1/2).
    assert rbf_distance(real, fake) == pytest.approx(2 - 2 * math.exp(-0.5), abs=1e-6)


def test_the_gaussian_discrepancy_is_symmetric_unbiased_and_grows_with_distance():
    means = [rbf_distance(normal(30, 2 * s), normal(30, 2 * s + 1)) for s in range(40)]
    assert abs(np.mean(means)) < 3 * np.std(means) / math.sqrt(len(means))
    near, far = (rbf_distance(normal(30, 0), normal(30, 1, shift)) for shift in (0.5, 1.5))
    assert 0 < near < far
    assert rbf_distance(normal(30, 1, 0.5), normal(30, 0)) == pytest.approx(near)


def test_a_histogram_counts_every_voxel_once_and_distance_is_the_shift_of_intensities():
    volumes = torch.rand(3, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    counted = histograms(volumes)
    assert torch.allclose(counted.sum(dim=1), torch.ones(3))
    moved = histograms(volumes + 0.25)
    assert histogram_distance(counted, moved) == pytest.approx(0.25, abs=1 / 64)
    assert histogram_distance(counted, counted) == 0


def test_a_wave_has_its_power_at_its_own_frequency_in_cycles_per_mm():
    n, spacing = 32, (2.0, 2.0, 2.0)
    x = torch.arange(n) * 2.0
    wave = torch.sin(2 * torch.pi * 0.125 * x)[None, None, :, None, None].expand(1, 1, n, n, n)
    spectrum = power_spectra(wave, spacing)[0]
    rings = frequencies((n, n, n), spacing)
    assert rings[int(spectrum.argmax())] == pytest.approx(0.125, abs=0.25 / 32)


def test_spectra_of_white_noise_are_flat_and_twice_the_amplitude_is_6_db():
    noise = torch.randn(4, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    spectra = power_spectra(noise, (1.0, 1.0, 1.0))
    assert spectra.mean(dim=0)[3:].std() < 0.3  # below it lacks what went with the mean
    louder = power_spectra(2 * noise, (1.0, 1.0, 1.0))
    assert spectrum_distance(spectra, louder) == pytest.approx(20 * math.log10(2), abs=1e-3)


def test_volumes_of_labels_are_counted_in_cubic_millimetres():
    maps = torch.zeros(2, 4, 4, 4, dtype=torch.int32)
    maps[0, :2], maps[1, 0, 0, 0] = 1, 7
    assert label_volumes(maps, (1, 7), 0.5).tolist() == [[16.0, 0.0], [0.0, 0.5]]


def test_tissues_are_told_apart_whatever_the_contrast():
    steps = torch.linspace(-1, 0.8, 4).repeat_interleave(16).view(1, 1, 4, 4, 4)
    jitter = 0.02 * torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, flat = (tissue_volumes(v, 2.0) for v in (steps + jitter, 0.5 * (steps + jitter)))
    assert plain.tolist() == flat.tolist() == [[32.0, 32.0, 32.0]]
    assert tissue_volumes(torch.zeros(1, 1, 4, 4, 4), 2.0).tolist() == [[0.0, 0.0, 0.0]]


def test_volumes_that_are_all_larger_by_five_lie_five_apart():
    volumes = torch.tensor([10.0, 20.0, 40.0])
    assert volume_distance(volumes, volumes.flip(0) + 5) == pytest.approx(5)


@pytest.mark.parametrize("amount", [0.5, 1.0, 2.0])
def test_blur_takes_power_from_high_frequencies_and_more_blur_takes_more(amount):
    from scipy.ndimage import gaussian_filter

    volumes = phantom_volumes(4)
    spectra = power_spectra(volumes, (8.0, 8.0, 8.0))
    distances = [
        spectrum_distance(
            spectra,
            power_spectra(
                torch.from_numpy(
                    np.stack([gaussian_filter(v, (0, s, s, s)) for v in volumes.numpy()])
                ),
                (8.0, 8.0, 8.0),
            ),
        )
        for s in (amount, 1.5 * amount)
    ]
    assert 1 < distances[0] < distances[1]


def test_blur_also_narrows_the_histogram():
    volumes = phantom_volumes(4)
    blurred = F.avg_pool3d(volumes, 3, 1, 1)
    assert histogram_distance(histograms(volumes), histograms(blurred)) > 0.01
