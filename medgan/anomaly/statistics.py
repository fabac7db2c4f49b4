"""Healthy mean and standard deviation at every position, and maps in units of these."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.core.template import LEAST_SPREAD


@dataclass(frozen=True)
class MapStatistics:
    """Healthy mean and standard deviation of a map, or of a scan, at every position.

    Attributes:
        mean, spread: shape (C, X, Y, Z), or (C, 1, 1, 1) where all positions are alike; C is 1
            for a map.
    """

    mean: Tensor
    spread: Tensor

    def standardise(self, score_map: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        """The map in healthy standard deviations above the healthy mean."""
        return (score_map - self.mean) / self.spread

    def at(self, volumes: Float[Tensor, "B C X Y Z"]) -> "MapStatistics":
        """What is usual at the voxels of aligned volumes: the same for all of them."""
        return self

    def to(self, device: torch.device) -> "MapStatistics":
        """The same on a device."""
        return MapStatistics(self.mean.to(device), self.spread.to(device))


def floored(mean: Tensor, spread: Tensor, even: bool = False) -> MapStatistics:
    """With a floor for the standard deviations, or the same of both for all positions if `even`.

    Args:
        mean: at every position.
        spread: standard deviation, likewise.
        even: whether all positions have the mean one of both.
    """
    typical = max(float(spread.mean()), 1e-6)
    if even:
        one = (len(mean), *[1] * (mean.ndim - 1))
        return MapStatistics(mean.new_full(one, float(mean.mean())), mean.new_full(one, typical))
    return MapStatistics(mean, spread.clamp(min=LEAST_SPREAD * typical))
