"""Random changes to volumes: drawing the parameters is apart from applying them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Corruption:
    """Boxes to be spoiled in a batch of volumes.

    Attributes:
        centre, radius: (B, N, 3), in fractions of the axis lengths.
        kind: (B, N), 0 constant, 1 noise, 2 the same box of another volume, 3 blurred.
        level: (B, N), intensity in [-1, 1].
        donor: (B,), the volume that kind 2 is taken from.
        noise: (B, 1, X, Y, Z), standard normal.
    """

    centre: Tensor
    radius: Tensor
    kind: Tensor
    level: Tensor
    donor: Tensor
    noise: Tensor


def draw_corruption(
    volume: Float[Tensor, "B C X Y Z"], generator: torch.Generator, boxes: int = 2
) -> Corruption:
    """Draws where and how `volume` will be spoiled; only its shape and device matter.

    Args:
        volume: shape (B, C, X, Y, Z).
        generator: source of the randomness, on the CPU.
        boxes: boxes a volume.
    """
    batch, device = len(volume), volume.device

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return (torch.rand(*size, generator=generator) * (high - low) + low).to(device)

    return Corruption(
        centre=uniform(0.1, 0.9, batch, boxes, 3),
        radius=uniform(0.04, 0.18, batch, boxes, 3),
        kind=torch.randint(0, 4, (batch, boxes), generator=generator).to(device),
        level=uniform(-1.0, 1.0, batch, boxes),
        donor=torch.randperm(batch, generator=generator).to(device),
        noise=torch.randn(batch, 1, *volume.shape[2:], generator=generator).to(device),
    )


def corrupt(
    volume: Float[Tensor, "B C X Y Z"], corruption: Corruption
) -> Float[Tensor, "B C X Y Z"]:
    """Spoils ellipsoids of each volume; the rest stays as it is.

    An encoder that must restore the clean volume from this learns what belongs there instead
    of copying what it is shown, so a lesion leaves a residual.

    Args:
        volume: shape (B, C, X, Y, Z), intensities in [-1, 1].
        corruption: from `draw_corruption` for a batch of this shape.

    Returns:
        Shape (B, C, X, Y, Z).

    Reference: the idea of restoring foreign or noisy patches, Tan et al. 2020, arXiv
        2011.04197, and Kascenas et al. 2022.
    """
    blurred = F.interpolate(
        F.interpolate(volume, scale_factor=0.25, mode="trilinear"),
        size=volume.shape[2:],
        mode="trilinear",
    )
    grids = torch.meshgrid(
        *(torch.linspace(0, 1, n, device=volume.device) for n in volume.shape[2:]), indexing="ij"
    )
    position = torch.stack(grids, dim=-1)
    spoiled = volume.clone()
    for box in range(corruption.kind.shape[1]):
        centre = corruption.centre[:, box, None, None, None]
        radius = corruption.radius[:, box, None, None, None]
        distance = ((position - centre) / radius).square().sum(-1).sqrt()[:, None]
        weight = (4 * (1 - distance)).clamp(0, 1)
        level = corruption.level[:, box, None, None, None, None]
        noise = (level + 0.4 * corruption.noise).expand_as(volume)
        fillings = torch.stack(
            [level.expand_as(volume), noise, volume[corruption.donor], blurred], dim=0
        )
        filling = fillings[corruption.kind[:, box], torch.arange(len(volume))]
        spoiled = torch.lerp(spoiled, filling, weight)
    return spoiled
