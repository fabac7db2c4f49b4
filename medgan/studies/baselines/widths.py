"""Widths that give networks a wanted number of parameters."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

_STEP = 4
"""Widths are multiples of this at the finest resolution, of twice as much at the coarsest."""


def parameters(networks: Sequence[nn.Module]) -> int:
    """Numbers that training moves."""
    return sum(p.numel() for network in networks for p in network.parameters())


def fitted_widths(
    resolutions: int, wanted: int, build: Callable[[list[int]], Sequence[nn.Module]]
) -> list[int]:
    """Channels by resolution, finest first, that give about as many parameters as are wanted.

    They double with every halving of the resolution, as in DCGAN; then the coarsest is fitted,
    where most parameters are and where they cost the least time.

    Args:
        resolutions: how many.
        wanted: parameters of all networks.
        build: networks with these widths; called without memory for their weights.
    """

    def count(widths: list[int]) -> int:
        with torch.device("meta"):
            return parameters(build(widths))

    def doubling(narrowest: int) -> list[int]:
        return [narrowest * 2**number for number in range(resolutions)]

    narrowest = _STEP
    while count(doubling(narrowest + _STEP)) <= wanted:
        narrowest += _STEP
    nearest = min(
        (doubling(narrowest), doubling(narrowest + _STEP)), key=lambda w: abs(count(w) - wanted)
    )
    finer, coarsest = nearest[:-1], nearest[-1]
    step = 2 * _STEP
    tried = range(max(step, coarsest // 2 // step * step), 2 * coarsest + 1, step)
    return min(([*finer, width] for width in tried), key=lambda w: abs(count(w) - wanted))
