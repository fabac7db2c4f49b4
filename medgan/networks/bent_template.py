"""The mean scan of a data set, bent by a field that a generator draws."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import convolution
from medgan.networks.resampling import resized, sampled

_FIRST = 1.0
"""Standard deviation of the fresh field along an axis, in voxels, about what real scans differ by.
Were it zero, all samples would begin alike."""


class BentTemplate(nn.Module):
    """What a generator of aligned scans begins with: their mean, bent, and where scans differ.

    Whatever all scans share need not be learned, and tissue that lies elsewhere in each scan is
    moved there rather than drawn again. What else makes a scan is drawn in standard deviations of
    the training scans at each place: nothing in air, little in white matter, much in the cortex.
    Every stage adds to the field at its resolution.

    Args:
        mean: (C, X, Y, Z) in [-1, 1].
        spread: (C, X, Y, Z), standard deviation of scans that were bent to the mean.
        widths: channels of the stages that draw the field, coarsest first.

    Reference: Dalca et al. 2019, arXiv 1908.02738 (templates bent by a network); Shu et al. 2018,
        arXiv 1806.06503 (deforming autoencoders).
    """

    statistics: Tensor

    def __init__(
        self,
        mean: Float[Tensor, "C X Y Z"],
        spread: Float[Tensor, "C X Y Z"],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        both = torch.cat([mean + 1, spread])[None].float()  # air is 0, and stays so when bent
        self.register_buffer("statistics", both, persistent=False)
        gain = _FIRST * len(widths) ** -0.5
        self.fields = nn.ModuleList(convolution(width, 3, gain=gain) for width in widths)

    def field(self, features: Sequence[Float[Tensor, "B _ _ _ _"]]) -> Float[Tensor, "B 3 X Y Z"]:
        """Displacements in voxels of the template, on the grid of the last features.

        Args:
            features: of the stages, each on a grid twice as fine as the one before.
        """
        whole = None
        for draw, x in zip(self.fields, features, strict=True):
            part = draw(x).float()
            whole = part if whole is None else part + resized(whole, part.shape[2:])
        assert whole is not None
        return whole

    def forward(
        self, field: Float[Tensor, "B 3 x y z"], drawn: Float[Tensor, "B C X Y Z"]
    ) -> Float[Tensor, "B C X Y Z"]:
        """The bent mean with what is drawn.

        Args:
            field: in each voxel stands what lies such a displacement away, in voxels.
            drawn: in standard deviations of scans at each place of the bent mean.
        """
        size = self.statistics.shape[2:]
        voxels = torch.tensor(size, dtype=torch.float32, device=field.device)
        shift = resized(field.float() * (2 / voxels)[:, None, None, None], size)
        where = (_positions(size, field.device) + shift).flip(1).permute(0, 2, 3, 4, 1)
        whole = self.statistics.expand(field.shape[0], -1, -1, -1, -1)
        bent = sampled(whole, where)
        mean, spread = bent.chunk(2, dim=1)
        return mean - 1 + spread * drawn


def _positions(size: torch.Size, device: torch.device) -> Float[Tensor, "3 X Y Z"]:
    """Centres of voxels, from -1 to 1 along each axis."""
    axes = [(2 * torch.arange(n, device=device) + 1) / n - 1 for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
