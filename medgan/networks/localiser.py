"""The localiser: a U-Net with a logit for every voxel."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import Stages
from medgan.networks.resampling import resized
from medgan.networks.unet import UNet

_RARE = -4.0
"""First logit of every voxel: one in fifty does not belong. From 0, the first steps were spent on
finding nothing anywhere, and a hundred steps found half as much (Dice 0.06 in place of 0.12)."""


class Localiser(nn.Module):
    """Says of every voxel of a volume whether it belongs there.

    Beside the volume it sees what `inputs` names, such as how unusual each place is.

    Args:
        inputs: names of what comes beside the volume.
        stages: its sizes.
        in_channels: image channels and those of the further inputs; by default one of each.
        mirrored: whether left and right of the anatomy are alike, so that `located` takes the mean
            over the volume and its mirror image.
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        stages: Stages,
        in_channels: int | None = None,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        self.inputs, self.mirrored = inputs, mirrored
        if in_channels is None:
            in_channels = 1 + len(inputs)
        self.unet = UNet(in_channels, 1, stages, enlarge=False)
        with torch.no_grad():
            self.unet.out.bias[0] = _RARE  # pyright: ignore[reportOptionalSubscript]

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B 1 X2 Y2 Z2"]:
        """Volumes (B, C, X, Y, Z) to logits; higher is stranger."""
        logits = self.unet(volume)
        if logits.shape[2:] == volume.shape[2:]:
            return logits
        return resized(logits, volume.shape[2:])

    def located(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B 1 X2 Y2 Z2"]:
        """The logits to score with, of a volume in RAS+."""
        if not self.mirrored:
            return self(volume)
        return (self(volume) + self(volume.flip(2)).flip(2)) / 2
