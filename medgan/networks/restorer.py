"""The restorer: a U-Net from a corrupted volume to the healthy one."""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import (
    ResidualBlock,
    Stages,
    Trunk,
    Upsample,
    clip,
    convolution,
    leaky_relu,
)
from medgan.networks.subbands import SubBands

RARE = -4.0
"""Logit of a voxel being unhealthy with fresh weights, which so leave a volume nearly as it is (Lin
et al. 2017, arXiv 1708.02002, section 3.3)."""


class Parts(NamedTuple):
    """What the restorer finds in volumes.

    Attributes:
        healthy: tissue as it would be if all were healthy, (B, C, X, Y, Z).
        lesion: logit of every voxel being unhealthy, (B, 1, X, Y, Z).
    """

    healthy: Tensor
    lesion: Tensor

    def into(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        """The volume, in which healthy tissue replaces lesions and the rest stays as it is."""
        share = self.lesion.sigmoid()
        return clip(volume.float() + share * (self.healthy - volume.float()))


class Restorer(nn.Module):
    """Finds lesions and replaces them by healthy tissue; everything else survives exactly.

    A network that learns a correction of the volume learns to correct nothing, for lesions are
    small and the rest is right. One that draws the whole volume loses fine detail everywhere. So
    this one draws healthy tissue for the whole volume, and a soft mask of where to put it.

    Args:
        inputs: names of what comes beside the volume.
        channels: image channels, in and out.
        in_channels: image channels and those of the further inputs.
        stages: its sizes.

    Reference: Ronneberger et al. 2015, arXiv 1505.04597 (U-Net); Pumarola et al. 2018, arXiv
        1807.09251, eq. 1 (a mask that mixes what is drawn with the input).
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        channels: int,
        in_channels: int,
        stages: Stages,
    ) -> None:
        super().__init__()
        self.inputs, self.channels = inputs, channels
        self.trunk = Trunk(in_channels, stages)
        widths, blocks = stages.widths, stages.blocks
        coarse_first, depth = widths[::-1], 2 * blocks * len(widths)
        self.ups = nn.ModuleList(Upsample(a, b) for a, b in pairwise(coarse_first))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks)))
            for w in coarse_first[1:]
        )
        self.larger = nn.ModuleList(
            Upsample(widths[0], widths[0]) for _ in range(stages.stem_stages - 1)
        )
        self.out = convolution(widths[0], 8 * (channels + 1), gain=0.1)
        with torch.no_grad():
            assert self.out.bias is not None
            self.out.bias[8 * channels] = RARE  # the mean of the eight sub-bands of the mask
        self.subbands = SubBands()

    def parts(self, seen: Float[Tensor, "B D X Y Z"]) -> Parts:
        """Healthy tissue and lesions of volumes in [-1, 1], which further inputs follow."""
        *finer, x = self.trunk(seen)
        for up, stage, features in zip(self.ups, self.stages, reversed(finer), strict=True):
            x = stage(up(x) + features)
        for up in self.larger:
            x = up(leaky_relu(x))
        drawn = self.subbands.join(self.out(leaky_relu(x)))
        return Parts(drawn[:, :-1], drawn[:, -1:])

    def forward(self, seen: Float[Tensor, "B D X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        """Corrupted volumes in [-1, 1], which further inputs follow, to healthy ones."""
        return self.parts(seen).into(seen[:, : self.channels])
