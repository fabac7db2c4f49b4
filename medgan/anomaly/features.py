"""Hand-made features of the neighbourhood of each voxel."""

import math
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_QUIET = 0.02
"""Added to magnitudes before their logarithm, in units of [-1, 1]: below it is rounding error."""
MOST_POSITIONS = 100_000
"""Most positions of a density: ten to thirty megabytes in a model."""
_SIGNED = 7
"""Number of local features that are signed; the others are magnitudes."""


def local_features(volumes: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B F X Y Z"]:
    """Twelve features of each voxel and channel.

    Intensities at four scales, their differences, local deviations and slopes.
    """
    scales = [volumes, *(smoothed(volumes, sigma) for sigma in (1.0, 2.0, 4.0))]
    bands = [a - b for a, b in pairwise(scales)]
    deviations = [smoothed(band.square(), 1.5).sqrt() for band in bands]
    slopes = []
    for scale in scales[1:3]:
        steps = torch.gradient(scale, dim=(2, 3, 4))
        slopes.append(torch.stack([step.square() for step in steps]).sum(dim=0).sqrt())
    return torch.cat([*scales, *bands, *deviations, *slopes], dim=1)


def coarse_features(volumes: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B F x y z"]:
    """The same at half the resolution, or less where volumes are large; magnitudes as logarithms.

    Logarithms make texture that is too smooth as unusual as texture that is too rough.
    """
    features = local_features(volumes)
    features[:, _SIGNED * volumes.shape[1] :].add_(_QUIET).log_()
    factor = 2
    while volumes[0, 0].numel() / factor**3 > MOST_POSITIONS:
        factor *= 2
    return F.avg_pool3d(features, factor)


def smoothed(volumes: Float[Tensor, "B C X Y Z"], sigma: float) -> Float[Tensor, "B C X Y Z"]:
    """Gaussian smoothing with replicated borders.

    A product with a banded matrix along each axis, on a CPU ten times as fast as a convolution.
    """
    shape = volumes.shape
    for axis in (2, 3):
        weights = _weights(shape[axis], sigma, volumes.device)
        planes = volumes.reshape(-1, shape[axis], math.prod(shape[axis + 1 :]))
        volumes = (weights @ planes).reshape(shape)
    return volumes @ _weights(shape[4], sigma, volumes.device).T


@lru_cache(maxsize=32)
def _weights(size: int, sigma: float, device: torch.device) -> Float[Tensor, "N N"]:
    """Smoothing as a matrix; rows add up to 1."""
    radius = max(1, round(3 * sigma))
    steps = torch.arange(-radius, radius + 1, device=device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    taken = (torch.arange(size, device=device)[:, None] + steps).clamp(0, size - 1)
    weights = torch.zeros(size, size, device=device).scatter_add(
        1, taken, kernel.expand(taken.shape)
    )
    return weights / kernel.sum()
