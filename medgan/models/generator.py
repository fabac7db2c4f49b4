"""The generator: latent to volume and label channels."""

import itertools
import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.models.blocks import (
    SLOPE,
    Noise,
    ResidualBlock,
    SubPixel,
    Upsample,
    convolution,
    draw_noise,
    leaky_relu,
    run,
)
from medgan.models.condition import EMBEDDED, ConditionEmbedding

Box = tuple[slice, slice, slice]


class ThinOctave(nn.Module):
    """One more thin octave, between the stages and full resolution, made as that is.

    Args:
        in_channels: channels of the grid of half the size.
        channels: channels of this octave.
        detail: how many of these come from a sub-pixel convolution.
    """

    def __init__(self, in_channels: int, channels: int, detail: int) -> None:
        super().__init__()
        self.up = Upsample(in_channels, channels - detail)
        self.detail = SubPixel(in_channels, detail)
        self.noise = Noise(channels)
        self.thin = convolution(channels, channels, gain=(2 / (1 + SLOPE**2)) ** 0.5)

    def forward(
        self, x: Float[Tensor, "B C X Y Z"], noise: Float[Tensor, "B 1 X2 Y2 Z2"] | None
    ) -> Float[Tensor, "B D X2 Y2 Z2"]:
        """Features at twice the resolution."""
        x = torch.cat([self.up(x), self.detail(x)], dim=1)
        return self.thin(leaky_relu(self.noise(x, noise)))


class Generator(nn.Module):
    """Maps a latent to a volume and, where labels are learned, to soft label channels.

    The latent makes the coarsest grid and scales every stage. All wide stages run at half
    resolution or below. The full resolution gets a few channels, up-sampled and from a
    sub-pixel convolution, and two convolutions. The output is linear: intensities are learned
    into [-1, 1], not squashed.

    Noise comes in at the finest stage and above it alone: drawn further down it made the
    anatomy, which the latent then did not hold and the encoder could not read.

    Everything above the stages is thin and sees a few voxels around only, so it can also be
    computed tile by tile.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of halvings.
        out_channels: image channels, then label channels.
        latent: length of the latent.
        widths: channels of the stages, finest first.
        thin: channels at full resolution, doubled at each thin octave below.
        blocks: residual blocks a stage.
        detail: how many of the thin channels come from a sub-pixel convolution; the others
            are up-sampled; doubled as they are.
        condition: length of an encoded condition; 0 makes a generator without any.
        octaves: thin octaves above the stages; 1 puts the finest stage at half resolution.

    Attributes:
        checkpointed: whether each octave is computed again in the backward pass.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (no normalisation, no output
        non-linearity), carried to 3D; Radford et al. 2016, arXiv 1511.06434, section 3 (the
        coarsest grid by a linear layer).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_channels: int,
        latent: int,
        widths: tuple[int, ...],
        thin: int,
        blocks: int,
        detail: int,
        condition: int = 0,
        octaves: int = 1,
    ) -> None:
        super().__init__()
        self.checkpointed = False
        coarse_first = widths[::-1]
        self.base = tuple(size // 2 ** (len(widths) + octaves - 1) for size in shape)
        self.latent = latent
        self.embed = ConditionEmbedding(condition, EMBEDDED) if condition else None
        latent += EMBEDDED if condition else 0
        self.start = nn.Linear(latent, coarse_first[0] * math.prod(self.base))
        nn.init.normal_(self.start.weight, std=latent**-0.5)
        nn.init.normal_(self.start.bias)
        self.scales = nn.ModuleList(nn.Linear(latent, w) for w in coarse_first)
        for scale in self.scales:
            nn.init.normal_(scale.weight, std=0.25 * latent**-0.5)  # pyright: ignore
            nn.init.zeros_(scale.bias)  # pyright: ignore
        depth = blocks * len(widths)
        self.stage_noise, self.thin_noise = Noise(widths[0]), Noise(thin)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks))) for w in coarse_first
        )
        thins = [thin << number for number in reversed(range(1, octaves))]
        above = (*coarse_first[:-1], [widths[0], *thins][-1])
        self.ups = nn.ModuleList(
            Upsample(a, b) for a, b in zip(above, (*coarse_first[1:], thin - detail), strict=True)
        )
        self.detail = SubPixel(above[-1], detail)
        gain = (2 / (1 + SLOPE**2)) ** 0.5
        self.thin = convolution(thin, thin, gain=gain)
        self.out = convolution(thin, out_channels, gain=gain)
        self.octaves = nn.ModuleList(
            ThinOctave(a, b, detail * b // thin) for a, b in pairwise([widths[0], *thins])
        )

    def forward(
        self,
        latent: Float[Tensor, "B L"],
        condition: Float[Tensor, "B D"] | None = None,
        random: torch.Generator | None = None,
        tile: int = 0,
    ) -> Float[Tensor, "B C X Y Z"]:
        """Latents (B, L) and conditions (B, D) to image and label channels (B, C, X, Y, Z).

        Args:
            latent: standard normal.
            condition: encoded; without one every condition is unknown, which is what zeros say.
            random: source of the noise, on the CPU; without it there is none, and the volume
                is a function of latent and condition alone.
            tile: edge length in voxels of the cubes in which the thin octaves are computed, one
                after the other; 0 computes them at once. The volume is the same.
        """
        if self.embed is not None:
            if condition is None:
                condition = latent.new_zeros(len(latent), self.embed.condition)
            latent = torch.cat([latent, self.embed(condition)], dim=1)
        x = self.start(latent).unflatten(1, (-1, *self.base))
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for number, scale in enumerate(self.scales):
            if number:
                x = self.ups[number - 1](x)
            x = x * (1 + scale(latent))[:, :, None, None, None]
            if number == len(self.scales) - 1:
                x = self.stage_noise(x, draw_noise(x, random))
            x = run(self.checkpointed, self.stages[number], x)
        octaves = len(self.octaves) + 1
        noises = [draw_noise(x, random, 2 << number) for number in range(octaves)]
        if not tile:
            return self._thin_octaves(x, noises)
        channels, size = self.out.out_channels, [n << octaves for n in x.shape[2:]]
        whole = x.new_empty(len(x), channels, *size)
        for box in _boxes(x.shape[2:], max(1, tile >> octaves)):
            around, inner = _with_halo(box, x.shape[2:], octaves + 1, octaves)
            parts = [
                None if n is None else n[(..., *_scaled(around, i + 1))]
                for i, n in enumerate(noises)
            ]
            part = self._thin_octaves(x[(..., *around)], parts)
            whole[(..., *_scaled(box, octaves))] = part[(..., *inner)]
        return whole

    def _thin_octaves(self, x: Tensor, noises: list[Tensor | None]) -> Tensor:
        """From the features of the finest stage to full resolution."""
        for octave, noise in zip(self.octaves, noises, strict=False):
            x = leaky_relu(run(self.checkpointed, octave, x, noise))
        return run(self.checkpointed, self._full_resolution, x, noises[-1])

    def _full_resolution(self, x: Tensor, noise: Tensor | None) -> Tensor:
        x = torch.cat([self.ups[-1](x), self.detail(x)], dim=1)
        x = self.thin(leaky_relu(self.thin_noise(x, noise)))
        return self.out(leaky_relu(x))


def _boxes(shape: torch.Size, edge: int) -> Iterator[Box]:
    """Cubes that fill a grid, smaller at its far ends."""
    starts = itertools.product(*(range(0, n, edge) for n in shape))
    for start in starts:
        x, y, z = (slice(a, min(a + edge, n)) for a, n in zip(start, shape, strict=True))
        yield x, y, z


def _with_halo(box: Box, shape: torch.Size, halo: int, octaves: int) -> tuple[Box, Box]:
    """A box with what is around it, up to the border, and where it lies in its doubled self.

    Each octave looks at two voxels of its own around (two convolutions), one of the grid below,
    and at one more there (doubling): a halo of one more than the octaves holds it all.
    """
    around = [
        slice(max(0, s.start - halo), min(n, s.stop + halo))
        for s, n in zip(box, shape, strict=True)
    ]
    inner = [slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, around, strict=True)]
    return tuple(around), _scaled(tuple(inner), octaves)  # pyright: ignore


def _scaled(box: Box, octaves: int) -> Box:
    """The box on a grid that is doubled so many times."""
    x, y, z = (slice(s.start << octaves, s.stop << octaves) for s in box)
    return x, y, z
