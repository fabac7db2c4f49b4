"""The kernel distance with an interval."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.networks.metrics import kernel_distance


class Interval(NamedTuple):
    """A figure and the 95% interval about it."""

    value: float
    low: float
    high: float


def kernel_interval(
    real: Float[Tensor, "N F"], fake: Float[Tensor, "M F"], draws: int = 500, seed: int = 0
) -> Interval:
    """Kernel distance with a 95% interval from random halves of both sets.

    Halves are drawn without replacement. The bootstrap, which draws with replacement, would put
    copies of one volume into a sample; the kernel of a volume with its copy is large, the mean
    over pairs no longer leaves it out, and every replicate lies above the estimate. Halves
    contain no copies, so the distance of halves is unbiased; and as half of n volumes, drawn
    from those n, scatter as n volumes drawn from the population do, the percentiles need no
    scaling. (That holds to first order, where the sets differ. Where they do not, halves scatter
    by up to the root of 3 more than they should, and the interval is too wide.)

    It covers the choice of scans and samples, not that of the training's seed.

    Args:
        real: features, shape (N, F), N above 3.
        fake: features, shape (M, F), M above 3.
        draws: how many halves.
        seed: of the halves.

    Reference: Efron 1982, The jackknife, the bootstrap and other resampling plans, chapter 8
        (half-sampling).
    """
    random = torch.Generator().manual_seed(seed)

    def half(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=random)[: len(features) // 2]]

    halves = torch.stack([kernel_distance(half(real), half(fake)) for _ in range(draws)])
    value = float(kernel_distance(real, fake))
    ends = torch.quantile(halves - halves.mean(), halves.new_tensor([0.025, 0.975]))
    return Interval(value, value + float(ends[0]), value + float(ends[1]))
