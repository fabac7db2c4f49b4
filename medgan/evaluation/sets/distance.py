"""The kernel distance with its interval."""

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.evaluation.interval import Interval
from medgan.networks.metrics import kernel_distance


def kernel_interval(
    real: Float[Tensor, "N F"], fake: Float[Tensor, "M F"], draws: int = 500, seed: int = 0
) -> Interval:
    """Kernel distance with a 95% interval from random halves of both sets.

    Halves are drawn without replacement. The bootstrap draws with replacement: a sample then holds
    the same volume twice, the kernel of a volume with itself is large, and every replicate lies
    above the estimate. Halves hold no volume twice, so their distance is unbiased. Half of n
    volumes, drawn from these n, have the variance of n volumes drawn from the population, so the
    percentiles need no scaling. (To first order, where the sets differ. Where they do not, the
    interval is too wide, by up to the root of 3.)

    The interval covers the choice of scans and samples, not the seed of the training.

    Args:
        real: features, shape (N, F), N above 3.
        fake: features, shape (M, F), M above 3.
        draws: number of random halves.
        seed: of the halves.

    Reference: Efron 1982, The jackknife, the bootstrap and other resampling plans, chapter 8
        (half-sampling).
    """
    random = torch.Generator().manual_seed(seed)

    def half(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=random)[: len(features) // 2]]

    halves = torch.stack([kernel_distance(half(real), half(fake)) for _ in range(draws)])
    value = float(kernel_distance(real, fake))
    return Interval.of_resamples(value, (value + halves - halves.mean()).double().numpy())
