"""Random augmentation and corruption: parameters are drawn first, then applied."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from medgan.core.randomness import Randomness
from medgan.networks.channels import split_channels
from medgan.networks.resampling import sampled


@dataclass(frozen=True)
class Corruption:
    """Regions to be corrupted in a batch of volumes.

    Attributes:
        centre, radius: (B, N, 3), in fractions of the axis lengths.
        kind: (B, N), on the CPU: 0 constant, 1 noise, 2 from another volume, 3 blurred.
        level: (B, N), intensity in [-1, 1].
        donor: on the CPU, the volume that kind 2 is taken from: of each volume of all ranks.
        noise: (B, 1, X, Y, Z), standard normal.
    """

    centre: Tensor
    radius: Tensor
    kind: Tensor
    level: Tensor
    donor: Tensor
    noise: Tensor


def draw_corruption(
    volume: Float[Tensor, "B C X Y Z"], random: Randomness, boxes: int = 2
) -> Corruption:
    """Draws a corruption for `volume`; only its shape and device are used.

    Args:
        volume: shape (B, C, X, Y, Z).
        random: source of all numbers.
        boxes: boxes a volume.
    """
    batch, device = len(volume), volume.device

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return (random.uniform(batch, *size) * (high - low) + low).to(device)

    return Corruption(
        centre=uniform(0.1, 0.9, boxes, 3),
        radius=uniform(0.04, 0.18, boxes, 3),
        kind=random.integers(4, batch, boxes),
        level=uniform(-1.0, 1.0, boxes),
        donor=random.order(batch),
        noise=random.voxels(batch, 1, *volume.shape[2:]).to(device),
    )


def corrupt(
    volume: Float[Tensor, "B C X Y Z"],
    corruption: Corruption,
    donors: Float[Tensor, "B C X Y Z"] | None = None,
) -> Float[Tensor, "B C X Y Z"]:
    """Corrupts ellipsoids of each volume and keeps the rest.

    A network trained to restore the clean volume learns healthy anatomy instead of copying its
    input, so a lesion leaves a residual.

    Args:
        volume: shape (B, C, X, Y, Z), intensities in [-1, 1].
        corruption: from `draw_corruption` for a batch of this shape.
        donors: the donor of each volume; None takes them from the batch.

    Returns:
        Shape (B, C, X, Y, Z).

    Reference: the idea of restoring foreign or noisy patches, Tan et al. 2020, arXiv
        2011.04197, and Kascenas et al. 2022.
    """
    donors = volume[corruption.donor] if donors is None else donors
    return torch.stack([_corrupted(volume, corruption, donors, n) for n in range(len(volume))])


def _corrupted(
    volume: Tensor, corruption: Corruption, donors: Tensor, number: int
) -> Float[Tensor, "C X Y Z"]:
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
        filling = _filling(volume, corruption, donors, number, box)
        corrupted = torch.lerp(corrupted, filling.expand_as(corrupted), weight.expand_as(corrupted))
    return corrupted


def _filling(
    volume: Tensor, corruption: Corruption, donors: Tensor, number: int, box: int
) -> Tensor:
    level, kind = corruption.level[number, box], int(corruption.kind[number, box])
    if kind == 0:
        return level
    if kind == 1:
        return level + 0.4 * corruption.noise[number]
    if kind == 2:
        return donors[number]
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

    def of(self, chosen: Bool[Tensor, " B"]) -> "Augmentation":
        """The parameters of some of the volumes."""
        choosing = (one[chosen.cpu()] for one in (self.flips, self.shifts, self.warped))
        rest = (self.matrix, self.gain, self.offset, self.spread, self.noise)
        return Augmentation(*choosing, *(one[chosen] for one in rest))


def draw_augmentation(
    volume: Float[Tensor, "B C X Y Z"],
    probability: float,
    random: Randomness,
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
        random: source of all numbers.
        flip: whether volumes may be flipped.
        images: image channels, each with intensities of its own.

    Reference: Karras et al. 2020, arXiv 2006.06676, appendix B, extended to 3D; section 2.2 on why
        it does not leak into the samples.
    """
    batch, device = len(volume), volume.device

    def normal(*size: int) -> Tensor:
        return random.normal(batch, *size)

    def chosen(*size: int) -> Tensor:
        return random.uniform(batch, *size) < probability

    flips = chosen(3) & (random.uniform(batch, 3) < 0.5)
    flips &= torch.tensor([flip, flip, False], device="cpu")
    shifted, warped, lit, noisy = chosen(), chosen(), chosen(), chosen()
    sizes = torch.tensor(volume.shape[2:], dtype=torch.float32, device="cpu").flip(0)
    voxels = (sizes / 4 * (random.uniform(batch, 3) - 0.5)).round()
    voxels = voxels * shifted[:, None]
    turn = torch.deg2rad(6 * normal(3)) * warped[:, None]
    scale = torch.exp(0.08 * normal() * warped)
    matrix = _rotation(turn, sizes) * scale[:, None, None]
    matrix = matrix * torch.where(flips, -1.0, 1.0)[:, None, :]
    size = (images, *volume.shape[2:])
    return Augmentation(
        flips,
        voxels.long(),
        warped,
        torch.cat([matrix, (2 / sizes * voxels)[:, :, None]], dim=2).to(device),
        torch.exp(0.15 * normal(images) * lit[:, None]).to(device),
        (0.1 * normal(images) * lit[:, None]).to(device),
        (0.1 * normal().abs() * noisy).to(device),
        _noise(noisy, random.generators(batch), size).to(device),
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


def _noise(
    noisy: Bool[Tensor, " B"], generators: Sequence[torch.Generator], size: tuple[int, ...]
) -> Float[Tensor, "B I X Y Z"]:
    """Standard normal numbers for each voxel of the volumes that get noise, zeros for others."""
    if not bool(noisy.any()):
        return torch.zeros((), device="cpu").expand(len(noisy), *size)
    noise = torch.zeros(len(noisy), *size, device="cpu")
    for row, generator, wanted in zip(noise, generators, noisy.tolist(), strict=True):
        if wanted:
            row.normal_(generator=generator)
    return noise


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
        found = sampled(chosen.float(), grid)
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
