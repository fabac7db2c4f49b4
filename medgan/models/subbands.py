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

    analysis: Tensor
    synthesis: Tensor

    def __init__(self) -> None:
        super().__init__()
        pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        signs = torch.einsum("ai,bj,ck->abcijk", pair, pair, pair).reshape(8, 8)
        scales = torch.tensor([SCALES[band.bit_count()] for band in range(8)])
        self.register_buffer("analysis", (signs * scales[:, None] / 8).T, persistent=False)
        self.register_buffer("synthesis", (signs / scales[:, None]), persistent=False)

    def split(self, volume: Float[Tensor, "B C X2 Y2 Z2"]) -> Float[Tensor, "B D X Y Z"]:
        """(B, C, 2X, 2Y, 2Z) to (B, 8C, X, Y, Z): of each channel the means, then the details."""
        count, channels, x, y, z = volume.shape
        x, y, z = x // 2, y // 2, z // 2
        cells = volume.float().reshape(count, channels, x, 2, y, 2, z, 2)
        cells = cells.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(-1, 8)
        bands = self._times(cells, self.analysis).reshape(count, x, y, z, 8 * channels)
        return bands.permute(0, 4, 1, 2, 3)

    def join(self, bands: Float[Tensor, "B D X Y Z"]) -> Float[Tensor, "B C X2 Y2 Z2"]:
        """The inverse of `split`."""
        count, channels, x, y, z = bands.shape
        cells = bands.float().permute(0, 2, 3, 4, 1).reshape(-1, 8)
        cells = self._times(cells, self.synthesis)
        cells = cells.reshape(count, x, y, z, channels // 8, 2, 2, 2)
        volume = cells.permute(0, 4, 1, 5, 2, 6, 3, 7)
        return volume.reshape(count, channels // 8, 2 * x, 2 * y, 2 * z)

    @staticmethod
    def _times(cells: Tensor, matrix: Tensor) -> Tensor:
        with torch.autocast(cells.device.type, enabled=False):
            return cells @ matrix
