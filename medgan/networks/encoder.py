"""The encoder: volume to latent."""

import math

import torch.nn as nn
from jaxtyping import Float
from torch import Tensor

from medgan.networks.blocks import Stages, Trunk, convolution


class Encoder(nn.Module):
    """Finds the latent from which the generator rebuilds a volume.

    The closing layer sees every position of the coarse grid: a latent has to hold where
    things are, which a global average would lose.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of downsamplings.
        in_channels: image channels.
        latent: length of the latent.
        stages: its sizes.
    """

    CLOSING_CHANNELS = 32

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        latent: int,
        stages: Stages,
    ) -> None:
        super().__init__()
        positions = math.prod(stages.coarsest(shape))
        self.trunk = Trunk(in_channels, stages)
        self.close = convolution(stages.widths[-1], self.CLOSING_CHANNELS, kernel=1)
        self.latent = nn.Linear(self.CLOSING_CHANNELS * positions, latent)

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B L"]:
        """Volumes (B, C, X, Y, Z) to latents (B, L)."""
        return self.latent(self.close(self.trunk(volume)[-1]).flatten(1))
