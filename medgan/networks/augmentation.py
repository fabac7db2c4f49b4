"""Random augmentation and corruption: parameters are drawn first, then applied."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medgan.networks.channels import split_channels


@dataclass(frozen=True)
class Corruption:
    """Regions to be corrupted in a batch of volumes.

    Attributes:
        centre, radius: (B, N, 3), in fractions of the axis lengths.
        kind: (B, N), on the CPU: 0 constant, 1 noise, 2 from another volume, 3 blurred.
        level: (B, N), intensity in [-1, 1].
        donor: (B,), on the CPU, the volume that kind 2 is taken from.
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
    """Draws a corruption for `volume`; only its shape and device are used.

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
        kind=torch.randint(0, 4, (batch, boxes), generator=generator),
        level=uniform(-1.0, 1.0, batch, boxes),
        donor=torch.randperm(batch, generator=generator),
        noise=torch.randn(batch, 1, *volume.shape[2:], generator=generator).to(device),
    )


def corrupt(
    volume: Float[Tensor, "B C X Y Z"], corruption: Corruption
) -> Float[Tensor, "B C X Y Z"]:
    """Corrupts ellipsoids of each volume and keeps the rest.

    A network trained to restore the clean volume learns healthy anatomy instead of copying its
    input, so a lesion leaves a residual.

    Args:
        volume: shape (B, C, X, Y, Z), intensities in [-1, 1].
        corruption: from `draw_corruption` for a batch of this shape.

    Returns:
        Shape (B, C, X, Y, Z).

    Reference: the idea of restoring foreign or noisy patches, Tan et al. 2020, arXiv
        2011.04197, and Kascenas et al. 2022.
    """
    return torch.stack([_corrupted(volume, corruption, number) for number in range(len(volume))])


def _corrupted(volume: Tensor, corruption: Corruption, number: int) -> Float[Tensor, "C X Y Z"]:
    """One volume of the batch; volumes are corrupted one by one to save memory."""
    corrupted, size = volume[number], volume.shape[2:]
    for box in range(corruption.kind.shape[1]):
        squares = torch.zeros((), device=volume.device)
        for axis, length in enumerate(size):
            position = torch.linspace(0, 1, length, device=volume.device)
            centre, radius = (v[number, box, axis] for v in (corruption.centre, corruption.radius))
            shape = [-1 if n == axis else 1 for n in range(3)]
            squares = squares + ((position - centre) / radius).square().reshape(shape)
        weight = (4 * (1 - squares.sqrt())).clamp(0, 1)
        filling = _filling(volume, corruption, number, box)
        corrupted = torch.lerp(corrupted, filling.expand_as(corrupted), weight.expand_as(corrupted))
    return corrupted


def _filling(volume: Tensor, corruption: Corruption, number: int, box: int) -> Tensor:
    level, kind = corruption.level[number, box], int(corruption.kind[number, box])
    if kind == 0:
        return level
    if kind == 1:
        return level + 0.4 * corruption.noise[number]
    if kind == 2:
        return volume[int(corruption.donor[number])]
    coarse = F.interpolate(volume[number, None], scale_factor=0.25, mode="trilinear")
    return F.interpolate(coarse, size=volume.shape[2:], mode="trilinear")[0]


@dataclass(frozen=True)
class Augmentation:
    """Parameters of the augmentation of each volume of a batch.

    Attributes:
        flips: (B, 3), on the CPU, along which axes, in torch's order Z, Y, X.
        shifts: (B, 3), on the CPU, in whole voxels along the same axes.
        warped: (B,), on the CPU, which volumes are resampled by their matrix, flips and shifts
            included; the others keep the exact values of their voxels.
        matrix: (B, 3, 4), output to input coordinates in [-1, 1], in torch's order Z, Y, X.
        gain, offset: (B, I), of the intensities of each image channel; 1 and 0 without a change.
        spread: (B,), standard deviation of added noise; 0 where there is none.
        noise: (B, I, X, Y, Z), standard normal where the spread is above 0.
    """

    flips: Tensor
    shifts: Tensor
    warped: Tensor
    matrix: Tensor
    gain: Tensor
    offset: Tensor
    spread: Tensor
    noise: Tensor


def draw_augmentation(
    volume: Float[Tensor, "B C X Y Z"],
    probability: float,
    generator: torch.Generator,
    flip: bool = True,
    images: int = 1,
) -> Augmentation:
    """Draws the parameters; only shape and device of `volume` are used.

    Flips are along Y and Z, never along X: left and right differ. Translations reach an eighth of
    an axis, in whole voxels. Rotation (standard deviation 6 degrees about each axis) and scaling
    (8%) are applied together, as one kind: only they resample, and resampling removes texture that
    the discriminator needs.

    Args:
        volume: shape (B, C, X, Y, Z).
        probability: of each kind.
        generator: source of the randomness, on the CPU.
        flip: whether volumes may be flipped.
        images: image channels, each with intensities of its own.

    Reference: Karras et al. 2020, arXiv 2006.06676, appendix B, extended to 3D; section 2.2 on why
        it does not leak into the samples.
    """
    batch, device = len(volume), volume.device

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    def chosen(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator) < probability

    flips = chosen(batch, 3) & (torch.rand(batch, 3, generator=generator) < 0.5)
    flips &= torch.tensor([flip, flip, False], device="cpu")
    shifted, warped, lit, noisy = chosen(4, batch)
    sizes = torch.tensor(volume.shape[2:], dtype=torch.float32, device="cpu").flip(0)
    voxels = (sizes / 4 * (torch.rand(batch, 3, generator=generator) - 0.5)).round()
    voxels = voxels * shifted[:, None]
    turn = torch.deg2rad(6 * normal(batch, 3)) * warped[:, None]
    scale = torch.exp(0.08 * normal(batch) * warped)
    matrix = _rotation(turn, sizes) * scale[:, None, None]
    matrix = matrix * torch.where(flips, -1.0, 1.0)[:, None, :]
    size = (batch, images, *volume.shape[2:])
    return Augmentation(
        flips,
        voxels.long(),
        warped,
        torch.cat([matrix, (2 / sizes * voxels)[:, :, None]], dim=2).to(device),
        torch.exp(0.15 * normal(batch, images) * lit[:, None]).to(device),
        (0.1 * normal(batch, images) * lit[:, None]).to(device),
        (0.1 * normal(batch).abs() * noisy).to(device),
        (normal(*size) if bool(noisy.any()) else torch.zeros((), device="cpu").expand(size)).to(
            device
        ),
    )


def augment(
    volume: Float[Tensor, "B C X Y Z"], augmentation: Augmentation
) -> Float[Tensor, "B C X Y Z"]:
    """Applies the augmentation, differentiably; label channels are moved but keep their values.

    Args:
        volume: image channels first, then label channels.
        augmentation: from `draw_augmentation` for a batch of this shape.
    """
    volume = _moved(volume, augmentation)
    gain, offset = (v[:, :, None, None, None] for v in (augmentation.gain, augmentation.offset))
    spread = augmentation.spread[:, None, None, None, None]
    image, labels = split_channels(volume, gain.shape[1])
    return torch.cat([image * gain + offset + spread * augmentation.noise, labels], dim=1)


def _moved(
    volume: Float[Tensor, "B C X Y Z"], augmentation: Augmentation
) -> Float[Tensor, "B C X Y Z"]:
    """Flips, shifts and warps; only what is warped is resampled, which takes most of the time."""
    moved = [
        one if warped else _shifted(one, flips, shifts)
        for one, flips, shifts, warped in zip(
            volume.split(1), augmentation.flips.tolist(), augmentation.shifts.tolist(),
            augmentation.warped.tolist(), strict=True,
        )
    ]  # fmt: skip
    numbers = [number for number, warped in enumerate(augmentation.warped.tolist()) if warped]
    if numbers:
        chosen = torch.cat([moved[number] for number in numbers])
        matrix = torch.stack([augmentation.matrix[number] for number in numbers])
        grid = F.affine_grid(matrix, list(chosen.shape), align_corners=False)
        found = F.grid_sample(chosen.float(), grid, padding_mode="border", align_corners=False)
        for number, one in zip(numbers, found.split(1), strict=True):
            moved[number] = one
    return torch.cat(moved)


def _shifted(
    volume: Float[Tensor, "1 C X Y Z"], flips: list[bool], shifts: list[int]
) -> Float[Tensor, "1 C X Y Z"]:
    """The same voxels in other places, those at the border repeated; Z, Y, X as drawn."""
    axes = (4, 3, 2)
    if any(flips):
        volume = volume.flip([axis for axis, flip in zip(axes, flips, strict=True) if flip])
    for axis, flip, shift in zip(axes, flips, shifts, strict=True):
        voxels = -shift if flip else shift
        if not voxels:
            continue
        length, kept = volume.shape[axis], volume.shape[axis] - abs(voxels)
        inner = volume.narrow(axis, max(voxels, 0), kept)
        border = volume.narrow(axis, length - 1 if voxels > 0 else 0, 1)
        repeated = border.repeat_interleave(abs(voxels), axis)
        volume = torch.cat([inner, repeated] if voxels > 0 else [repeated, inner], axis)
    return volume


def _rotation(turn: Float[Tensor, "B 3"], sizes: Float[Tensor, " 3"]) -> Float[Tensor, "B 3 3"]:
    """Rotations by an axis-angle vector, in coordinates that run from -1 to 1 along each axis."""
    z, y, x = turn.unbind(1)
    zero = torch.zeros_like(x)
    rows = [(zero, -x, y), (x, zero, -z), (-y, z, zero)]
    rotation = torch.linalg.matrix_exp(torch.stack([torch.stack(row, 1) for row in rows], 1))
    return rotation * sizes / sizes[:, None]
