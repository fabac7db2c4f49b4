"""Distorted copies of scans: moved, deformed, with another contrast and noise."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

_BEND = 5.0
"""Smoothness of the deformation: standard deviation of its Gaussian filter, in voxels."""


def distort(
    volumes: Float[Tensor, "N 1 X Y Z"],
    seed: int,
    shift: float = 2.0,
    turn: float = 2.5,
    bend: float = 0.7,
    gamma: float = 0.4,
    gain: float = 0.2,
    blur: float = 0.6,
    noise: float = 0.08,
) -> Float[Tensor, "N 1 X Y Z"]:
    """Distorted copies of volumes: the same subject, but other voxels.

    An audit hides them among synthetic volumes as positive controls.

    Args:
        volumes: intensities in [-1, 1], on the CPU.
        seed: of the distortions.
        shift: largest, in voxels along each axis.
        turn: largest, in degrees about each axis.
        bend: root mean square of a smooth displacement, in voxels along each axis.
        gamma: largest logarithm of the exponent of intensities from 0 to 1.
        gain: largest logarithm of their factor; a third of it is the largest offset.
        blur: spread of a Gaussian, in voxels.
        noise: standard deviation of added noise.

    Returns:
        In [-1, 1].
    """
    random = torch.Generator().manual_seed(seed)
    made = []
    for volume in volumes.split(1):
        field = torch.randn(3, *volume.shape[2:], generator=random)
        draws = 2 * torch.rand(9, generator=random) - 1
        grain = torch.randn(volume.shape, generator=random)
        moved = _moved(volume.float(), shift * draws[:3], turn * draws[3:6], bend, field)
        soft = ndimage.gaussian_filter(moved.numpy(), (0, 0, blur, blur, blur), mode="nearest")
        unit = (torch.from_numpy(soft).clamp(-1, 1) + 1) / 2
        lit = unit ** math.exp(gamma * draws[6]) * math.exp(gain * draws[7]) + gain / 3 * draws[8]
        made.append((2 * lit - 1 + noise * grain).clamp(-1, 1))
    return torch.cat(made)


def _moved(
    volume: Float[Tensor, "1 1 X Y Z"],
    shift: Float[Tensor, " 3"],
    turn: Float[Tensor, " 3"],
    bend: float,
    field: Float[Tensor, "3 X Y Z"],
) -> Float[Tensor, "1 1 X Y Z"]:
    """Resampled once, trilinearly; beyond the border its voxels are repeated."""
    if not (shift.any() or turn.any() or bend):
        return volume
    sizes = torch.tensor(volume.shape[2:], dtype=torch.float32, device="cpu")
    axes = [torch.arange(n, device="cpu") - (n - 1) / 2 for n in volume.shape[2:]]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    x, y, z = torch.deg2rad(turn)
    zero = torch.zeros((), device="cpu")
    rows = [torch.stack(row) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    position = position @ torch.linalg.matrix_exp(torch.stack(rows)).T + shift
    if bend:
        smooth = torch.from_numpy(ndimage.gaussian_filter(field.numpy(), (0, *[_BEND] * 3)))
        position = position + (bend / smooth.std() * smooth).permute(1, 2, 3, 0)
    grid = (2 * position / sizes).flip(-1)[None]  # grid_sample's coordinates run Z, Y, X
    return F.grid_sample(volume, grid, padding_mode="border", align_corners=False)
