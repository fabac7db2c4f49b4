"""Noise of a scanner, as strong as a condition says."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.subbands import SubBands

_FIRST = 1 / 3
"""Strength of fresh noise, in that of the measured noise."""
_BLACK = -0.9
"""Below it, an image holds air."""
_FASTER = 10.0
"""How many times as fast as other weights the strength is learned: Adam's steps are as small as its
learning rate, and gains are of the order of 1."""


class Measured(NamedTuple):
    """The noise of training scans, of which a generator is given the level.

    Attributes:
        column: of the encoded condition, where the standardised level stands.
        mean, spread: of the level, as a standard deviation in [-1, 1].
    """

    column: int
    mean: float
    spread: float


class ScannerNoise(nn.Module):
    """Adds noise whose strength follows the measured noise of a scan.

    It begins white and a third as strong as was measured, for fine anatomy and a coarser grid make
    the measured noise too strong; which bands hold how much, and how the strength follows the
    level, is learned. What a generator draws black stays free of it, as air is.

    Args:
        measured: noise of the training scans.
        images: image channels; all get noise of the same strength.

    Reference: Karras et al. 2019, arXiv 1812.04948, section 3.2 (noise added with a learned
        strength), here at the finest bands alone, with a strength for each sample.
    """

    kinds: Tensor

    def __init__(self, measured: Measured, images: int) -> None:
        super().__init__()
        self.column, self.images = measured.column, images
        self.line = nn.Parameter(torch.tensor([measured.mean, measured.spread], device="cpu"))
        self.gains = nn.Parameter(torch.full((4,), _FIRST / _FASTER, device="cpu"))
        self.subbands = SubBands()
        kinds = torch.tensor([band.bit_count() for band in range(8)], device="cpu").repeat(images)
        self.register_buffer("kinds", kinds, persistent=False)

    def level(
        self, condition: Float[Tensor, "B D"] | None, count: int | torch.SymInt
    ) -> Float[Tensor, " B"]:
        """Standard deviations in [-1, 1]; the mean one where the condition is unknown."""
        known = 0.0 if condition is None else condition[:, self.column].float()
        return torch.relu(self.line[0] + self.line[1] * known).expand(count)

    def forward(
        self,
        image: Float[Tensor, "B I X Y Z"],
        condition: Float[Tensor, "B D"] | None,
        white: Float[Tensor, "B J x y z"],
    ) -> Float[Tensor, "B I X Y Z"]:
        """Images with noise.

        Args:
            image: before it is clipped.
            condition: encoded; None where nothing is known.
            white: standard normal, eight bands of each image channel at half its size.
        """
        scale = self.subbands.scales.flatten().repeat(self.images) * 8**-0.5
        gains = _FASTER * self.gains[self.kinds]
        bands = white.float() * (scale * gains)[:, None, None, None]
        level = self.level(condition, image.shape[0])[:, None, None, None, None]
        return image + level * self.subbands.join(bands) * (image > _BLACK)
