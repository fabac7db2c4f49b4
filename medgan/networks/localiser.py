"""The localiser: a decoder on a discriminator's trunk, with a logit for every voxel."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import (
    ResidualBlock,
    Stages,
    Trunk,
    Upsample,
    convolution,
    leaky_relu,
)
from medgan.networks.subbands import SubBands

_RARE = -4.0
"""First logit of every voxel: one in fifty does not belong. From 0, the first steps were spent on
finding nothing anywhere, and a hundred steps found half as much (Dice 0.06 in place of 0.12)."""


class Localiser(nn.Module):
    """Says of every voxel of a volume whether it belongs there.

    Beside the volume it sees what `inputs` names, such as how unusual each place is. The
    decoder adds what each stage of the trunk saw at its size; logits are drawn as Haar sub-bands,
    as the generator draws volumes.

    Args:
        inputs: names of what comes beside the volume.
        stages: its sizes.
        in_channels: image channels and those of the further inputs; by default one of each.

    Reference: Schönfeld et al. 2020, arXiv 2002.12655, section 3.1 (a discriminator that is a
        U-Net), carried to 3D.
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        stages: Stages,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        if in_channels is None:
            in_channels = 1 + len(inputs)
        self.trunk = Trunk(in_channels, stages)
        widths, blocks = stages.widths, stages.blocks
        coarse_first, depth = widths[::-1], 2 * blocks * len(widths)
        self.ups = nn.ModuleList(Upsample(a, b) for a, b in pairwise(coarse_first))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks)))
            for w in coarse_first[1:]
        )
        self.out = convolution(widths[0], 8, gain=0.1)
        with torch.no_grad():
            self.out.bias[0] = _RARE  # pyright: ignore[reportOptionalSubscript]
        self.subbands = SubBands()

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B 1 X2 Y2 Z2"]:
        """Volumes (B, C, X, Y, Z) to logits; higher is stranger."""
        *finer, x = self.trunk(volume)
        for up, stage, seen in zip(self.ups, self.stages, reversed(finer), strict=True):
            x = stage(up(x) + seen)
        logits = self.subbands.join(self.out(leaky_relu(x)))
        if logits.shape[2:] == volume.shape[2:]:
            return logits
        return torch.nn.functional.interpolate(logits, size=volume.shape[2:], mode="trilinear")
