import pytest
import torch

from medgan.evaluation.sets.distance import kernel_interval
from medgan.networks.metrics import kernel_distance


def sample(count, seed, shift=0.0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=random, dtype=torch.float64) + shift


def test_the_value_is_the_kernel_distance_and_lies_inside():
    real, fake = sample(20, 0), sample(30, 1, 0.5)
    interval = kernel_interval(real, fake)
    assert interval.value == pytest.approx(float(kernel_distance(real, fake)))
    assert interval.low < interval.value < interval.high


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_the_interval_covers_the_true_distance_about_95_times_in_100(shift):
    truth = float(kernel_distance(sample(3000, 900), sample(3000, 901, shift))) if shift else 0.0
    inside = 0
    for seed in range(60):
        interval = kernel_interval(sample(40, 2 * seed), sample(40, 2 * seed + 1, shift), 100)
        inside += interval.low <= truth <= interval.high
    assert 53 <= inside <= 60


def test_the_interval_narrows_with_more_volumes_and_excludes_what_is_not_so():
    narrow, wide = (kernel_interval(sample(n, 0), sample(n, 1, 1.0)) for n in (200, 20))
    assert narrow.high - narrow.low < 0.6 * (wide.high - wide.low)
    assert narrow.low > 0


def test_copies_in_a_bootstrap_would_raise_the_distance_and_halves_do_not():
    """Why halves: resampling with replacement puts copies off the diagonal."""
    random = torch.Generator().manual_seed(0)
    real, fake = sample(30, 0), sample(30, 1)
    value = float(kernel_distance(real, fake))
    replicates = [
        float(
            kernel_distance(*(x[torch.randint(30, (30,), generator=random)] for x in (real, fake)))
        )
        for _ in range(200)
    ]
    halves = [
        float(
            kernel_distance(*(x[torch.randperm(30, generator=random)[:15]] for x in (real, fake)))
        )
        for _ in range(200)
    ]
    mean = torch.tensor([replicates, halves]).mean(dim=1)
    assert mean[0] > value + 0.3
    assert abs(mean[1] - value) < 0.3


def test_halves_are_drawn_by_the_seed():
    real, fake = sample(20, 0), sample(20, 1)
    assert kernel_interval(real, fake, 20, seed=1) == kernel_interval(real, fake, 20, seed=1)
    assert kernel_interval(real, fake, 20, seed=1) != kernel_interval(real, fake, 20, seed=2)
