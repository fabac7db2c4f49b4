"""The generator: latent to volume and label channels."""

import itertools
import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.bent_template import BentTemplate
from medgan.networks.blocks import (
    SLOPE,
    Stages,
    SubPixel,
    Upsample,
    clip,
    convolution,
    leaky_relu,
    residual_blocks,
    run,
)
from medgan.networks.channels import split_channels
from medgan.networks.condition import EMBEDDED, ConditionEmbedding
from medgan.networks.noise import Measured, ScannerNoise
from medgan.networks.subbands import SubBands

Box = tuple[slice, slice, slice]
GAIN = (2 / (1 + SLOPE**2)) ** 0.5
"""Keeps the variance behind the activation."""

_BLACK = -1.2
"""Where the means of the image begin, in units of [-1, 1]."""


class StemStage(nn.Module):
    """A stage without residual blocks, between the stages and half resolution.

    Half of its channels are up-sampled; the others come from a sub-pixel convolution, which
    brings detail that trilinear doubling cannot.

    Args:
        in_channels: channels of the grid of half the size.
        channels: channels of this stage.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.up = Upsample(in_channels, channels - channels // 2)
        self.detail = SubPixel(in_channels, channels // 2)
        self.conv = convolution(channels, channels, gain=GAIN)

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X2 Y2 Z2"]:
        """Features at twice the resolution."""
        return self.conv(leaky_relu(torch.cat([self.up(x), self.detail(x)], dim=1)))


class Generator(nn.Module):
    """Maps a latent to a volume and, where labels are learned, to soft label channels.

    The latent makes the coarsest grid and scales every stage. Nothing is computed at full
    resolution: two convolutions at half of it draw the Haar sub-bands of the volume, which are
    put together and clipped to [-1, 1], as real scans and label channels are: what is -1 all
    through the background of real scans could otherwise never be matched.

    All anatomy is of the latent: noise that was drawn at every stage made anatomy, which the latent
    then did not hold; drawn in the finest alone, it stood in for edges and came out as grain. Where
    the noise of scans is a condition, noise that follows it is added at the very end.

    Everything above the stages sees a few voxels around only, so it can also be computed tile by
    tile.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of downsamplings.
        out_channels: image channels, then label channels.
        latent: length of the latent.
        stages: its sizes; windows are for what sees a volume.
        condition: length of an encoded condition; 0 makes a generator without any.
        template: mean and standard deviation of the image channels of aligned scans, each
            (I, X, Y, Z), of which samples are then made (`BentTemplate`).
        noise: of the training scans, where their noise is a condition.
        images: how many of the channels are image channels.

    Attributes:
        checkpointed: whether each stage is computed again in the backward pass.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (no normalisation), carried to 3D;
        Radford et al. 2016, arXiv 1511.06434, section 3 (the coarsest grid by a linear layer).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_channels: int,
        latent: int,
        stages: Stages,
        condition: int = 0,
        template: tuple[Tensor, Tensor] | None = None,
        noise: Measured | None = None,
        images: int = 1,
    ) -> None:
        super().__init__()
        self.checkpointed = False
        coarse_first, finest = stages.widths[::-1], stages.widths[0]
        self.base = stages.coarsest(shape)
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
        depth = stages.blocks * len(stages.widths)
        self.stages = nn.ModuleList(
            residual_blocks(stages.blocks, width, depth) for width in coarse_first
        )
        self.ups = nn.ModuleList(Upsample(a, b) for a, b in pairwise(coarse_first))
        thin = stages.stem_channels
        stem = [thin << number for number in reversed(range(stages.stem_stages - 1))]
        self.stem_stages = nn.ModuleList(StemStage(a, b) for a, b in pairwise([finest, *stem]))
        self.stem_blocks = residual_blocks(stages.stem_blocks, [*stem, thin][0], depth)
        self.stem = convolution([finest, *stem][-1], thin, gain=GAIN)
        self.out = convolution(thin, 8 * out_channels, gain=GAIN)
        self.subbands = SubBands()
        self.images = images
        self._doublings = len(stages.widths) + stages.stem_stages - 2  # to half resolution
        self.noise = None if noise is None else ScannerNoise(noise, images)
        self.template = None
        if template is not None:
            self.template = BentTemplate(*template, coarse_first)

    def init_background(self, images: int = 1) -> None:
        """Moves the image channels that fresh weights draw below -1, where most of them is clipped.

        Air is then black from the first step on. Brought down from grey, it kept a faint texture,
        by which a discriminator recognised every sample where scans are mostly air.

        Args:
            images: image channels, which come first.
        """
        assert self.out.bias is not None
        with torch.no_grad():
            self.out.bias[: 8 * images : 8] = _BLACK  # the mean of each one's sub-bands

    def forward(
        self,
        latent: Float[Tensor, "B L"],
        condition: Float[Tensor, "B D"] | None = None,
        tile: int = 0,
        white: Float[Tensor, "B J x y z"] | None = None,
    ) -> Float[Tensor, "B C X Y Z"]:
        """Latents (B, L) and conditions (B, D) to image and label channels (B, C, X, Y, Z).

        Args:
            latent: standard normal.
            condition: encoded; without one every condition is unknown, which is what zeros say.
            tile: edge length in voxels of the cubes in which everything above the stages is
                computed, one after the other; 0 computes it at once. The volume is the same.
            white: of `white_noise`; without it, the volume has no noise but what the latent draws.
        """
        known = condition
        if self.embed is not None:
            if condition is None:
                condition = latent.new_zeros(len(latent), self.embed.condition)
            latent = torch.cat([latent, self.embed(condition)], dim=1)
        x = self.start(latent).unflatten(1, (-1, *self.base))
        x = x.contiguous(memory_format=torch.channels_last_3d)
        features = []
        for number, scale in enumerate(self.scales):
            if number:
                x = self.ups[number - 1](x)
            x = x * (1 + scale(latent))[:, :, None, None, None]
            x = run(self.checkpointed, self.stages[number], x)
            features.append(x)
        drawn = self._above_the_stages(x) if not tile else self._tiled(x, tile)
        return self._finished(drawn, features, known, white)

    def white_noise(self, count: int, random: torch.Generator) -> Float[Tensor, "B J x y z"] | None:
        """Standard normal numbers for the noise of so many volumes, from a generator on the CPU.

        None for a generator without a condition on noise; `random` is then left as it is.
        """
        if self.noise is None:
            return None
        size = [edge << self._doublings for edge in self.base]
        white = torch.randn(count, 8 * self.noise.images, *size, generator=random)
        return white.to(self.start.weight.device)

    def _tiled(self, x: Tensor, tile: int) -> Tensor:
        """What is above the stages, tile by tile."""
        times = len(self.stem_stages)
        channels, size = self.out.out_channels // 8, [n << times + 1 for n in x.shape[2:]]
        whole = torch.empty(len(x), channels, *size, device=x.device)
        for box in _boxes(x.shape[2:], max(1, tile >> times + 1)):
            around, inner = _with_halo(box, x.shape[2:], times, len(self.stem_blocks))
            part = self._above_the_stages(x[(..., *around)])
            whole[(..., *_scaled(box, times + 1))] = part[(..., *inner)]
        return whole

    def _finished(
        self,
        drawn: Tensor,
        features: list[Tensor],
        condition: Tensor | None,
        white: Tensor | None,
    ) -> Tensor:
        """What was drawn, with the bent template and noise where there are such, clipped."""
        if self.template is None and white is None:
            return clip(drawn)
        images, labels = split_channels(drawn, self.images)
        if self.template is not None:
            images = self.template(self.template.field(features), images)
        if self.noise is not None and white is not None:
            images = self.noise(images, condition, white)
        return clip(torch.cat([images, labels], dim=1))

    def _above_the_stages(self, x: Tensor) -> Tensor:
        """From the features of the finest stage to full resolution."""
        for number, stage in enumerate(self.stem_stages):
            x = leaky_relu(run(self.checkpointed, stage, x))
            if not number:
                x = run(self.checkpointed, self.stem_blocks, x)
        return self.subbands.join(run(self.checkpointed, self._bands, x))

    def _bands(self, x: Tensor) -> Tensor:
        return self.out(leaky_relu(self.stem(x)))


def _boxes(shape: torch.Size, edge: int) -> Iterator[Box]:
    """Cubes that fill a grid, smaller at its far ends."""
    starts = itertools.product(*(range(0, n, edge) for n in shape))
    for start in starts:
        x, y, z = (slice(a, min(a + edge, n)) for a, n in zip(start, shape, strict=True))
        yield x, y, z


def _with_halo(box: Box, shape: torch.Size, stem_stages: int, stem_blocks: int) -> tuple[Box, Box]:
    """A box with what is around it, up to the border, and where it lies in the volume made of it.

    At half resolution two convolutions see two voxels around. Each stem stage sees one
    more of its own (a convolution) and at one of the grid below (doubling), where those around it
    are half as many. So does each block of the coarsest one, with its two convolutions: a halo of
    two, and of one more for each stem stage and block, holds it all.
    """
    halo = 2 + stem_stages + stem_blocks
    around = [
        slice(max(0, s.start - halo), min(n, s.stop + halo))
        for s, n in zip(box, shape, strict=True)
    ]
    inner = [slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, around, strict=True)]
    return tuple(around), _scaled(tuple(inner), stem_stages + 1)  # pyright: ignore


def _scaled(box: Box, stem_stages: int) -> Box:
    """The box on a grid that is doubled so many times."""
    x, y, z = (slice(s.start << stem_stages, s.stop << stem_stages) for s in box)
    return x, y, z
