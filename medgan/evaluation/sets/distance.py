"""The kernel distance with an interval."""

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.evaluation.interval import Interval
from medgan.networks.metrics import kernel_distance


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
    return Interval.of_resamples(value, (value + halves - halves.mean()).double().numpy())
