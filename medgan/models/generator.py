"""The generator: latent to volume and label channels."""

import itertools
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
    double,
    draw_noise,
    leaky_relu,
    run,
)

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

    The latent shapes a learned coarse basis and scales every stage. All wide stages run at
    half resolution or below. The full resolution gets a few channels, up-sampled and from a
    sub-pixel convolution, and two convolutions. Each resolution adds what it knows to the
    doubled volume of the one before, starting from nothing, so that a generator trained on
    halved volumes goes on at twice the size as if nothing had happened. The output is linear:
    intensities are learned into [-1, 1], not squashed.

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
        octaves: thin octaves above the stages; 1 puts the finest stage at half resolution.

    Attributes:
        checkpointed: whether each octave is computed again in the backward pass.
        most_halved: how many times volumes can be halved and still be generated.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (learned basis, no
        normalisation, no output non-linearity), carried to 3D; the sum over resolutions,
        Karras et al. 2020, arXiv 1912.04958, section 4.1.
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
        octaves: int = 1,
    ) -> None:
        super().__init__()
        self.checkpointed = False
        self.most_halved = len(widths) + octaves - 2
        coarse_first = widths[::-1]
        base = tuple(size // 2 ** (len(widths) + octaves - 1) for size in shape)
        self.latent = latent
        self.basis = nn.Parameter(torch.randn(1, coarse_first[0], *base))
        self.shape_basis = nn.Linear(latent, coarse_first[0])
        nn.init.normal_(self.shape_basis.weight, std=latent**-0.5)
        self.scales = nn.ModuleList(nn.Linear(latent, w) for w in coarse_first)
        for scale in self.scales:
            nn.init.normal_(scale.weight, std=0.25 * latent**-0.5)  # pyright: ignore
            nn.init.zeros_(scale.bias)  # pyright: ignore
        depth = blocks * len(widths)
        self.noises = nn.ModuleList(Noise(w) for w in (*coarse_first, thin))
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
        self.heads = nn.ModuleList(
            convolution(w, out_channels, kernel=1, gain=float(number == 0))
            for number, w in enumerate(coarse_first[1:])
        )
        self.out = convolution(thin, out_channels, gain=0.0)
        self.octaves = nn.ModuleList(
            ThinOctave(a, b, detail * b // thin) for a, b in pairwise([widths[0], *thins])
        )
        self.outs = nn.ModuleList(convolution(b, out_channels, gain=0.0) for b in thins)

    def forward(
        self,
        latent: Float[Tensor, "B L"],
        random: torch.Generator | None = None,
        octave: int = 0,
        tile: int = 0,
    ) -> Float[Tensor, "B C X Y Z"]:
        """Latents (B, L) to image and label channels (B, C, X, Y, Z).

        Args:
            latent: standard normal.
            random: source of the noise, on the CPU; without it there is none, and the volume
                is a function of the latent alone.
            octave: how many times the volume is halved; the finer layers are then left out.
            tile: edge length in voxels of the cubes in which the thin octaves are computed, one
                after the other; 0 computes them at once. The volume is the same.
        """
        thin = 1 + len(self.octaves)
        x = self.basis * self.shape_basis(latent)[:, :, None, None, None]
        volume = None
        for number in range(len(self.stages) - max(0, octave - thin)):
            if number:
                x = self.ups[number - 1](x)
            x = x * (1 + self.scales[number](latent))[:, :, None, None, None]
            x = run(self.checkpointed, self._stage, number, x, draw_noise(x, random))
            if number:
                layer = self.heads[number - 1](leaky_relu(x))
                volume = layer if volume is None else double(volume) + layer
        assert volume is not None
        octaves = range(max(0, thin - octave))
        noises = [draw_noise(x, random, 2 << number) for number in octaves]
        if not tile:
            return self._thin_octaves(x, volume, noises)
        whole = volume.new_empty(*volume.shape[:2], *(n << len(octaves) for n in volume.shape[2:]))
        for box in _boxes(x.shape[2:], max(1, tile >> len(octaves))):
            around, inner = _with_halo(box, x.shape[2:], thin + 1, len(octaves))
            parts = [
                None if n is None else n[(..., *_scaled(around, i + 1))]
                for i, n in enumerate(noises)
            ]
            part = self._thin_octaves(x[(..., *around)], volume[(..., *around)], parts)
            whole[(..., *_scaled(box, len(octaves)))] = part[(..., *inner)]
        return whole

    def _stage(self, number: int, x: Tensor, noise: Tensor | None) -> Tensor:
        return self.stages[number](self.noises[number](x, noise))

    def _thin_octaves(self, x: Tensor, volume: Tensor, noises: list[Tensor | None]) -> Tensor:
        """The volume at the resolution that as many octaves as there are noises lead to."""
        for number, noise in enumerate(noises):
            if number < len(self.octaves):
                x = run(self.checkpointed, self.octaves[number], x, noise)
                layer = self.outs[number](leaky_relu(x))
            else:
                layer = run(self.checkpointed, self._full_resolution, x, noise)
            volume = double(volume) + layer
        return volume

    def _full_resolution(self, x: Tensor, noise: Tensor | None) -> Tensor:
        x = torch.cat([self.ups[-1](x), self.detail(x)], dim=1)
        x = self.thin(leaky_relu(self.noises[-1](x, noise)))
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
