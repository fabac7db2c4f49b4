"""Trilinear interpolation, also with gradients that are the same bits each time on a GPU.

PyTorch's own adds up the gradient of a voxel in the order in which threads of the GPU end, and is
refused where `train.deterministic` is on.
"""

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medgan.core.determinism import in_fixed_order


def resized(
    volume: Float[Tensor, "B C X Y Z"], size: Sequence[int]
) -> Float[Tensor, "B C X2 Y2 Z2"]:
    """Voxels of another size in the same field of view, as `F.interpolate` makes them.

    Args:
        volume: on any grid.
        size: the new one.
    """
    if not in_fixed_order(volume.device):
        return F.interpolate(volume, size=list(size), mode="trilinear", align_corners=False)
    with torch.autocast(volume.device.type, enabled=False):
        for axis, voxels in zip((2, 3, 4), size, strict=True):
            weights = _weights(volume.shape[axis], voxels, volume.device).to(volume.dtype)
            volume = (volume.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return volume


def sampled(
    volume: Float[Tensor, "B C X Y Z"], grid: Float[Tensor, "B X2 Y2 Z2 3"]
) -> Float[Tensor, "B C X2 Y2 Z2"]:
    """Values at positions, as `F.grid_sample` gives them; beyond the border those of the border.

    Args:
        volume: in which to look.
        grid: positions, Z, Y, X from -1 to 1, the outer faces of the first and last voxels.
    """
    if not in_fixed_order(volume.device):
        return F.grid_sample(volume, grid, padding_mode="border", align_corners=False)
    lengths = volume.shape[2:]
    sizes = torch.tensor(lengths, dtype=grid.dtype, device=grid.device)
    position = ((grid.flip(-1) + 1) * sizes - 1) / 2
    position = position.clamp(min=torch.zeros_like(sizes), max=sizes - 1)
    low = position.detach().floor().minimum(sizes - 2).clamp(min=0)
    part, first = position - low, low.long()
    flat, result = volume.flatten(2), None
    for corner in product((0, 1), repeat=3):
        weight, number = torch.ones_like(part[..., 0]), torch.zeros_like(first[..., 0])
        for axis, (upper, length) in enumerate(zip(corner, lengths, strict=True)):
            weight = weight * (part[..., axis] if upper else 1 - part[..., axis])
            number = number * length + (first[..., axis] + upper).clamp(max=length - 1)
        places = number.flatten(1)[:, None].expand(-1, flat.shape[1], -1)
        found = flat.gather(2, places).unflatten(2, grid.shape[1:4]) * weight[:, None]
        result = found if result is None else result + found
    assert result is not None
    return result


def _weights(before: int, after: int, device: torch.device) -> Float[Tensor, "N M"]:
    """By how much each voxel of an axis counts in each new one."""
    centres = (torch.arange(after, device=device) + 0.5) * (before / after) - 0.5
    away = centres.clamp(0, before - 1)[:, None] - torch.arange(before, device=device)
    return (1 - away.abs()).clamp(min=0)
