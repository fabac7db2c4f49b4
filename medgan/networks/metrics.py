"""Inexpensive metrics of samples during training: tensors in, tensor out."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_POOLED = 4


def band_features(volume: Float[Tensor, "B C X Y Z"], bands: int = 3) -> Float[Tensor, "B F"]:
    """Regional brightness, and regional texture at several scales.

    A Laplacian pyramid; of each band the mean magnitude, of the rest the mean, on a grid of
    4 x 4 x 4 cells. No weights, so nothing to download and nothing to overfit.

    Args:
        volume: shape (B, C, X, Y, Z), intensities in [-1, 1].
        bands: of the pyramid, finest first.

    Returns:
        Shape (B, (bands + 1) * C * 64).

    Reference: Burt and Adelson 1983, The Laplacian pyramid as a compact image code.
    """
    rest = volume.float()
    features = []
    for _ in range(bands):
        coarse = F.avg_pool3d(rest, 2, ceil_mode=True)
        band = rest - F.interpolate(coarse, size=rest.shape[2:], mode="trilinear")
        features.append(F.adaptive_avg_pool3d(band.abs(), _POOLED))
        rest = coarse
    features.append(F.adaptive_avg_pool3d(rest, _POOLED))
    return torch.cat([f.flatten(1) for f in features], dim=1)


def standardised(
    real: Float[Tensor, "N F"], fake: Float[Tensor, "M F"]
) -> tuple[Float[Tensor, "N F"], Float[Tensor, "M F"]]:
    """Features of two sets, standardised by mean and standard deviation of both together.

    Real and synthetic volumes are treated alike, and a feature with little variance among real
    volumes cannot dominate. Constant features become 0.

    Args:
        real: shape (N, F).
        fake: shape (M, F).
    """
    both = torch.cat([real, fake])
    mean, spread = both.mean(dim=0), both.std(dim=0)
    spread = torch.where(spread > 1e-8, spread, torch.ones_like(spread))
    return (real - mean) / spread, (fake - mean) / spread


def kernel_distance(real: Float[Tensor, "N F"], fake: Float[Tensor, "M F"]) -> Float[Tensor, ""]:
    """Unbiased squared maximum mean discrepancy with the cubic polynomial kernel (KID).

    Features are first standardised (see `standardised`). Two samples of one distribution give 0 on
    average for any number of volumes, unlike the Fréchet distance; single values may be negative.
    Distances of different distributions are stable from 16 volumes on.

    Args:
        real: shape (N, F), N above 1.
        fake: shape (M, F), M above 1.

    Reference: Bińkowski et al. 2018, arXiv 1801.01401, eq. 4 and section 3.1.
    """
    real, fake = standardised(real, fake)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_of_pairs(matrix: Tensor) -> Tensor:
        n = len(matrix)
        return (matrix.sum() - matrix.diagonal().sum()) / (n * (n - 1))

    within = mean_of_pairs(kernel(real, real)) + mean_of_pairs(kernel(fake, fake))
    return within - 2 * kernel(real, fake).mean()


class Neighbourhoods(NamedTuple):
    """Precision, recall, density and coverage of synthetic volumes.

    Attributes:
        precision: share of fakes within the k-th neighbour's distance of some real volume.
        recall: share of real volumes within the k-th neighbour's distance of some fake.
        density: mean number of real volumes whose k-th neighbour's distance includes a fake, over
            k; may exceed 1.
        coverage: share of real volumes whose k-th neighbour's distance includes a fake.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(
    real: Float[Tensor, "N F"], fake: Float[Tensor, "M F"], k: int = 5
) -> Neighbourhoods:
    """Precision, recall, density and coverage (PRDC); features as they are.

    Of two samples of one distribution density is 1 on average and coverage
    1 - (N - 1)(N - 2)...(N - k) / ((M + N - 1)...(M + N - k)): they depend on N and M.

    Args:
        real: shape (N, F), N above 1.
        fake: shape (M, F), M above 1.
        k: neighbours; fewer where a set has no more.

    Reference: Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 1 and 2 (precision, recall);
        Naeem et al. 2020, arXiv 2002.09797, eq. 3 to 5 (density, coverage).
    """
    apart = torch.cdist(real.double(), fake.double())

    def reach(own: Tensor) -> Tensor:
        within = torch.cdist(
            own.double(), own.double(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        near = min(k, len(own) - 1)
        return within.fill_diagonal_(0).kthvalue(near + 1, dim=1).values  # itself comes first

    of_real = reach(real)
    reached = apart <= of_real[:, None]
    return Neighbourhoods(
        float(reached.any(dim=0).double().mean()),
        float((apart <= reach(fake)[None]).any(dim=1).double().mean()),
        float(reached.double().sum(dim=0).mean() / min(k, len(real) - 1)),
        float(reached.any(dim=1).double().mean()),
    )


def diversity(volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, ""]:
    """Mean absolute difference between the volumes of a batch, over all pairs and voxels."""
    n = len(volume)
    distance = torch.cdist(volume.flatten(1).float(), volume.flatten(1).float(), p=1)
    return distance.sum() / (n * (n - 1) * volume[0].numel())


def dark_share(
    volume: Float[Tensor, "B C X Y Z"], threshold: float = -0.3, background: float = -0.9
) -> Float[Tensor, " B"]:
    """Share of the brain that is as dark as cerebrospinal fluid in T1: larger in older brains.

    All voxels above the background count as brain; those below the threshold as dark. A proxy for
    atrophy, not a segmentation: it depends on spacing, so compare at one spacing only.

    Args:
        volume: shape (B, C, X, Y, Z), intensities in [-1, 1], brain only, background near -1.
        threshold: chosen on the training split of IXI at 4 mm, by correlation with age.
        background: above the intensities of generated background.

    Returns:
        Shape (B,), from 0 to 1; 0 without any brain.
    """
    brain = (volume > background).flatten(1)
    dark = brain & (volume < threshold).flatten(1)
    return dark.sum(dim=1) / brain.sum(dim=1).clamp(min=1)


def clipped_share(
    fake: Float[Tensor, "N C X Y Z"], real: Float[Tensor, "M C X Y Z"]
) -> Float[Tensor, ""]:
    """Excess share of voxels of fakes that are clipped to -1 or 1.

    Relative to the share of unclipped voxels in real volumes: 0 where fakes clip no more voxels
    than real volumes, 1 where all voxels of fakes are clipped.

    Args:
        fake: clipped to [-1, 1].
        real: likewise.
    """
    clips, usual = ((volume.abs() >= 1).float().mean() for volume in (fake, real))
    return ((clips - usual) / (1 - usual).clamp(min=0.01)).clamp(min=0)
