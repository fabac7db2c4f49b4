"""The restorer: a U-Net from a corrupted volume to the healthy one."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import ResidualBlock, Trunk, Upsample, clip, convolution, leaky_relu
from medgan.networks.subbands import SubBands


class Restorer(nn.Module):
    """Adds a correction to a volume, so that fine detail which it leaves alone survives exactly.

    The correction is drawn as Haar sub-bands, by a decoder that adds the features of each stage of
    the encoder at its size. With fresh weights it is close to zero.

    Args:
        channels: image channels, in and out.
        widths: channels of the stages, finest first.
        stem_channels: channels of the first stem stage.
        blocks: residual blocks a stage.
        stem_stages: resolutions above the first residual stage; 1 puts it at half resolution.
        windows: of each image channel, (low, high) of CT in HU, through which it is seen; a channel
            without any is seen as it is.

    Reference: Ronneberger et al. 2015, arXiv 1505.04597 (U-Net); Zhang et al. 2017, arXiv
        1608.03981, section 3.2 (learning the residual).
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        stem_channels: int,
        blocks: int,
        stem_stages: int = 1,
        windows: Sequence[Sequence[tuple[float, float]]] = (),
    ) -> None:
        super().__init__()
        self.trunk = Trunk(channels, widths, stem_channels, blocks, stem_stages, windows)
        coarse_first, depth = widths[::-1], 2 * blocks * len(widths)
        self.ups = nn.ModuleList(Upsample(a, b) for a, b in pairwise(coarse_first))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks)))
            for w in coarse_first[1:]
        )
        self.larger = nn.ModuleList(Upsample(widths[0], widths[0]) for _ in range(stem_stages - 1))
        self.out = convolution(widths[0], 8 * channels, gain=0.01)
        self.subbands = SubBands()

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        """Corrupted volumes in [-1, 1] to healthy ones."""
        *finer, x = self.trunk(volume)
        for up, stage, seen in zip(self.ups, self.stages, reversed(finer), strict=True):
            x = stage(up(x) + seen)
        for up in self.larger:
            x = up(leaky_relu(x))
        return clip(volume.float() + self.subbands.join(self.out(leaky_relu(x))))
