"""The encoder: volume to latent."""

from collections.abc import Sequence

import torch.nn as nn
from jaxtyping import Float
from torch import Tensor

from medgan.networks.blocks import Trunk, convolution


class Encoder(nn.Module):
    """Finds the latent from which the generator rebuilds a volume.

    The closing layer sees every position of the coarse grid: a latent has to hold where
    things are, which a global average would lose.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of downsamplings.
        in_channels: image channels.
        latent: length of the latent.
        widths: channels of the stages, finest first.
        stem_channels: channels of the first stem stage.
        blocks: residual blocks a stage.
        stem_stages: resolutions above the first residual stage; 1 puts it at half resolution.
        windows: of each image channel, (low, high) of CT in HU, through which it is seen; a channel
            without any is seen as it is.
    """

    CLOSING_CHANNELS = 32

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        latent: int,
        widths: tuple[int, ...],
        stem_channels: int,
        blocks: int,
        stem_stages: int = 1,
        windows: Sequence[Sequence[tuple[float, float]]] = (),
    ) -> None:
        super().__init__()
        base = [size // 2 ** (len(widths) + stem_stages - 1) for size in shape]
        positions = base[0] * base[1] * base[2]
        self.trunk = Trunk(in_channels, widths, stem_channels, blocks, stem_stages, windows)
        self.close = convolution(widths[-1], self.CLOSING_CHANNELS, kernel=1)
        self.latent = nn.Linear(self.CLOSING_CHANNELS * positions, latent)

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B L"]:
        """Volumes (B, C, X, Y, Z) to latents (B, L)."""
        return self.latent(self.close(self.trunk(volume)[-1]).flatten(1))
