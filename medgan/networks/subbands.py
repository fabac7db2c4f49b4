"""Volumes as Haar sub-bands of half their size and back: full resolution without a layer there."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

SCALES = (1.0, 4.0, 8.0, 16.0)
"""What makes a band, by the number of axes along which it is a difference, about as strong as the
means of MRI in [-1, 1] are. Of hippocampi the standard deviations were 0.49 (means), 0.10 to 0.13,
0.04 to 0.05 and 0.03. Unscaled, the details were learned last and not well."""


class SubBands(nn.Module):
    """The change between a volume and its eight Haar sub-bands, scaled to like strength.

    Networks that read and write sub-bands need no layer at full resolution, where one would take
    most of the time and memory, and still see and draw every voxel. Both ways are linear, and run
    in fp32: bf16 steps of a volume are as large as its finest detail.

    Reference: Mallat 1989, A theory for multiresolution signal decomposition, IEEE PAMI 11(7);
        Gal et al. 2021, arXiv 2102.06108 (wavelets at both ends of a GAN).
    """

    scales: Tensor

    def __init__(self) -> None:
        super().__init__()
        scales = torch.tensor([SCALES[band.bit_count()] for band in range(8)], device="cpu")
        self.register_buffer("scales", scales.reshape(2, 2, 2, 1, 1, 1), persistent=False)

    def split(self, volume: Float[Tensor, "B C X2 Y2 Z2"]) -> Float[Tensor, "B D X Y Z"]:
        """(B, C, 2X, 2Y, 2Z) to (B, 8C, X, Y, Z): of each channel the means, then the details."""
        x = volume.float()
        for axis in (-3, -2, -1):
            a, b = x.unflatten(axis, (-1, 2)).unbind(axis)
            x = torch.stack([a + b, a - b], dim=5 + axis)
        return (x * (self.scales / 8)).flatten(1, 4)

    def join(self, bands: Float[Tensor, "B D X Y Z"]) -> Float[Tensor, "B C X2 Y2 Z2"]:
        """The inverse of `split`."""
        x = bands.float().unflatten(1, (-1, 2, 2, 2)) / self.scales
        for axis in (-1, -2, -3):
            a, b = x.unbind(5 + axis)
            x = torch.stack([a + b, a - b], dim=axis).flatten(axis - 1, axis)
        return x
