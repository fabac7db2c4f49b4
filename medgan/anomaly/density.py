"""Density of features: a Gaussian at every position of a grid.

Features are hand-made or those of the discriminator, in place of a network trained on photographs.
Mean and covariance are estimated from healthy training scans; the Mahalanobis distance of a new
scan's features at each position is its map.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from medgan.core.determinism import in_fixed_order
from medgan.core.errors import DataError

RADIUS = 2
"""Covariances are averages over 5 x 5 x 5 positions: a hundred scans are too few for one each."""
SHRINKAGE = 0.1
_LEAST = 1e-3
"""Smallest standard deviation that some feature must have somewhere, as a share of the largest
mean one."""
_LARGE = 20_000
"""Positions beyond which neighbours share a covariance: 3 MB in place of 14 for brains at 2 mm."""


@dataclass(frozen=True)
class FeatureDensity:
    """A Gaussian of features at every position of a grid.

    Attributes:
        mean: shape (C, X, Y, Z).
        whitening: shape (X * Y * Z, C, C), lower triangular, which makes a healthy deviation
            standard normal; on large grids one for each 2 x 2 x 2 positions, an eighth of these.
    """

    mean: Tensor
    whitening: Tensor

    @classmethod
    def fit(
        cls,
        features: Iterable[Tensor],
        radius: int = RADIUS,
        shrinkage: float = SHRINKAGE,
    ) -> "FeatureDensity":
        """Estimates mean and covariance from features of healthy scans, in one pass.

        Args:
            features: batches, (B, C, X, Y, Z).
            radius: covariances are averaged over cubes of 2 * radius + 1 positions.
            shrinkage: of each covariance towards its diagonal, 0 to 1.

        Raises:
            DataError: E_CONTRAST when the scans hardly differ from one another.

        Reference: Defard et al. 2021, PaDiM, arXiv 2011.08785, section III; Ledoit and Wolf 2004,
            A well-conditioned estimator for large-dimensional covariance matrices, JMVA 88.
        """
        count, first, total, products, shape = 0, None, None, None, ()
        for batch in features:
            rows = batch.float().flatten(2).permute(2, 0, 1)  # positions, scans, channels
            first = rows[:, :1].clone() if first is None else first
            rows = rows - first  # in air, rounding errors of squares would exceed the variance
            one, two = rows.sum(dim=1), rows.transpose(1, 2) @ rows
            total = one if total is None else total + one
            products = two if products is None else products + two
            count, shape = count + len(batch), batch.shape[2:]
        assert first is not None
        assert total is not None
        assert products is not None
        mean = total / count
        covariance = products / count - mean[:, :, None] * mean[:, None, :]
        covariance = _pooled(covariance, tuple(shape), radius) * count / max(count - 1, 1)
        if _shares(shape):  # averaged already, they hardly differ between neighbours
            grid = covariance.reshape(*shape, *covariance.shape[1:])
            covariance = grid[::2, ::2, ::2].flatten(0, 2)
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        floor = 1e-3 * diagonal.mean() + 1e-8
        covariance = (1 - shrinkage) * covariance
        covariance += torch.diag_embed(shrinkage * diagonal + floor)
        identity = torch.eye(covariance.shape[1], device=covariance.device).expand_as(covariance)
        alike = DataError(
            "E_CONTRAST", "the training scans", "hardly differ from one another",
            "check data.intensity and data.window",
        )  # fmt: skip
        if diagonal.max() <= (_LEAST * (first[:, 0] + mean).abs().max()).square():
            raise alike
        try:
            factor = torch.linalg.cholesky(covariance)
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            raise alike from None
        whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        return cls((first[:, 0] + mean).T.reshape(-1, *shape), whitening)

    def to(self, device: torch.device) -> "FeatureDensity":
        """The same on a device."""
        return FeatureDensity(self.mean.to(device), self.whitening.to(device))

    def packed(self) -> tuple[Tensor, Tensor]:
        """Mean and (X * Y * Z, C * (C + 1) / 2) whitening, without its zeros."""
        row, column = _lower_triangle(self.whitening.shape[1], self.whitening.device)
        return self.mean, self.whitening[:, row, column]

    @classmethod
    def unpacked(cls, mean: Tensor, entries: Tensor) -> "FeatureDensity":
        """The inverse of `packed`.

        Raises:
            RuntimeError: when the sizes do not match.
        """
        channels = len(mean)
        whitening = torch.zeros(len(entries), channels, channels, device=mean.device)
        row, column = _lower_triangle(channels, mean.device)
        whitening[:, row, column] = entries
        return cls(mean, whitening)

    def distance(self, features: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B 1 X Y Z"]:
        """Mahalanobis distance at each position over the root of C: about 1 where healthy."""
        shape = features.shape[2:]
        edge = 2 if len(self.whitening) < math.prod(shape) else 1
        blocks = [(n // edge, edge) for n in shape]
        parts = (features.float() - self.mean).reshape(*features.shape[:2], *sum(blocks, ()))
        # (block positions, channels, scans and positions in a block)
        parts = parts.permute(2, 4, 6, 1, 0, 3, 5, 7)
        deviation = parts.reshape(len(self.whitening), features.shape[1], -1)
        squares = (self.whitening @ deviation).square().mean(dim=1).sqrt()
        found = squares.reshape(*parts.shape[:3], *parts.shape[4:]).permute(3, 0, 4, 1, 5, 2, 6)
        return found.reshape(len(features), 1, *shape)


def _shares(shape: Sequence[int]) -> bool:
    """Whether 2 x 2 x 2 positions of a grid share a covariance."""
    return math.prod(shape) > _LARGE and not any(n % 2 for n in shape)


def _lower_triangle(size: int, device: torch.device) -> Int[Tensor, "2 K"]:
    """Rows and columns of the lower triangle of a matrix."""
    return torch.tril_indices(size, size, device=device)


def _pooled(
    covariance: Float[Tensor, "P C C"], shape: tuple[int, ...], radius: int
) -> Float[Tensor, "P C C"]:
    """Averages over cubes of positions, smaller at the borders."""
    grid = covariance.reshape(*shape, *covariance.shape[1:])
    for axis, size in enumerate(shape):
        position = torch.arange(size, device=covariance.device)
        low, high = (position - radius).clamp(min=0), (position + radius + 1).clamp(max=size)
        if in_fixed_order(grid.device):  # where a running sum has none
            inside = (position >= low[:, None]) & (position < high[:, None])
            means = grid.movedim(axis, -1).double() @ (inside.T / (high - low).double())
        else:
            sums = F.pad(grid.movedim(axis, -1).cumsum(dim=-1, dtype=torch.float64), (1, 0))
            means = (sums[..., high] - sums[..., low]) / (high - low)
        grid = means.movedim(-1, axis).float()
    return grid.flatten(0, 2)
