"""The U-Net of localiser, restorer and translator: volumes in, volumes of the same size out."""

from itertools import pairwise

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


class UNet(nn.Module):
    """A decoder on a discriminator's trunk, which adds what each stage saw at its size.

    Output is drawn as Haar sub-bands, as the generator draws volumes.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        stages: its sizes.
        enlarge: whether the decoder goes on to half resolution where the first residual stage is
            coarser; else the output is as many times smaller than the input.

    Reference: Ronneberger et al. 2015, arXiv 1505.04597; Schönfeld et al. 2020, arXiv 2002.12655,
        section 3.1 (a discriminator that is a U-Net), carried to 3D.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stages: Stages, enlarge: bool = True
    ) -> None:
        super().__init__()
        self.trunk = Trunk(in_channels, stages)
        widths, blocks = stages.widths, stages.blocks
        coarse_first, depth = widths[::-1], 2 * blocks * len(widths)
        self.ups = nn.ModuleList(Upsample(a, b) for a, b in pairwise(coarse_first))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks)))
            for w in coarse_first[1:]
        )
        self.larger = nn.ModuleList(
            Upsample(widths[0], widths[0]) for _ in range(stages.stem_stages - 1 if enlarge else 0)
        )
        self.out = convolution(widths[0], 8 * out_channels, gain=0.1)
        self.subbands = SubBands()

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X2 Y2 Z2"]:
        """Volumes to as many others."""
        *finer, x = self.trunk(volume)
        for up, stage, seen in zip(self.ups, self.stages, reversed(finer), strict=True):
            x = stage(up(x) + seen)
        for up in self.larger:
            x = up(leaky_relu(x))
        return self.subbands.join(self.out(leaky_relu(x)))
