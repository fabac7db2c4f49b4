"""The translator: a U-Net from one image to another."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.conversion import Conversion
from medgan.networks.blocks import Stages, clip
from medgan.networks.unet import UNet


class Translator(nn.Module):
    """Draws a target of a source, and with noise one of several targets that would fit.

    Args:
        conversion: what is made of what.
        source_channels, target_channels: in and out.
        stages: its sizes.
        residual: whether the target is drawn as a change of the first source channels.

    Reference: Isola et al. 2017, arXiv 1611.07004, section 3.2 (a U-Net as conditional generator).
    """

    def __init__(
        self,
        conversion: Conversion,
        source_channels: int,
        target_channels: int,
        stages: Stages,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.conversion, self.residual = conversion, residual
        self.source_channels, self.target_channels = source_channels, target_channels
        self.unet = UNet(source_channels + conversion.noise, target_channels, stages)
        with torch.no_grad():  # what was learned without noise stays when noise takes part
            first = self.unet.trunk.first.layer
            first.weight[:, 8 * source_channels :] = 0

    def forward(
        self,
        source: Float[Tensor, "B S X Y Z"],
        noise: Float[Tensor, "B 1 X Y Z"] | None = None,
    ) -> Float[Tensor, "B T X Y Z"]:
        """A source in [-1, 1] to a target in [-1, 1].

        Args:
            source: what is given.
            noise: standard normal, one number a voxel; None draws none, which is the most usual
                answer of a network that sees noise.
        """
        seen = source
        if self.conversion.noise:
            noise = torch.zeros_like(source[:, :1]) if noise is None else noise
            seen = torch.cat([source, noise], dim=1)
        drawn = self.unet(seen)
        if self.residual:
            drawn = drawn + source[:, : self.target_channels].float()
        return clip(drawn)
