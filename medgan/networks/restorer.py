"""The restorer: a U-Net from a corrupted volume to the healthy one."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import Stages, clip
from medgan.networks.unet import UNet

RARE = -4.0
"""Logit of a voxel being unhealthy with fresh weights, which so leave a volume nearly as it is (Lin
et al. 2017, arXiv 1708.02002, section 3.3)."""
MEAN = "mean"
"""Of the inputs of a restorer: the mean healthy scan as it is bent to a volume."""


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
    this one draws healthy tissue for the whole volume, and a soft mask of where to put it. Where
    the mean healthy scan is its last input, the tissue is that plus what is drawn.

    Args:
        inputs: names of what comes beside the volume; `MEAN` is the last, if at all.
        channels: image channels, in and out.
        in_channels: image channels and those of the further inputs.
        stages: its sizes.

    Reference: Pumarola et al. 2018, arXiv 1807.09251, eq. 1 (a mask that mixes what is drawn with
        the input).
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
        self.unet = UNet(in_channels, channels + 1, stages)
        with torch.no_grad():
            assert self.unet.out.bias is not None
            self.unet.out.bias[8 * channels] = RARE  # the mean of the eight sub-bands of the mask

    def parts(self, seen: Float[Tensor, "B D X Y Z"]) -> Parts:
        """Healthy tissue and lesions of volumes in [-1, 1], which further inputs follow."""
        drawn = self.unet(seen)
        tissue = drawn[:, :-1]
        if self.inputs[-1:] == (MEAN,):
            tissue = tissue + seen[:, -self.channels :]
        return Parts(tissue, drawn[:, -1:])

    def forward(self, seen: Float[Tensor, "B D X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        """Corrupted volumes in [-1, 1], which further inputs follow, to healthy ones."""
        return self.parts(seen).into(seen[:, : self.channels])
