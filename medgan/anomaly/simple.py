"""Simple scorers without a neural network, as baselines.

All have one interface: they are fitted to healthy training volumes and give a map of a new one.
They are calibrated as the model's own scorers are.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import local_features, smoothed
from medgan.anomaly.statistics import floored

Volumes = Float[Tensor, "B 1 X Y Z"]


@runtime_checkable
class Scorer(Protocol):
    """Gives maps, one value a voxel, higher for more unusual."""

    def fit(self, volumes: Volumes) -> None:
        """Fits to healthy training volumes in [-1, 1]."""
        ...

    def map(self, volumes: Volumes) -> Volumes:
        """Maps of new volumes on the same grid."""
        ...


class Histogram:
    """Excess of each voxel's intensity in the histogram, compared with healthy scans.

    Reference: Meissen et al. 2022, arXiv 2212.06506, whose scan score is a distance of histograms.
    """

    BINS = 64

    def fit(self, volumes: Volumes) -> None:
        """Mean and spread of the share of each bin."""
        shares = self._shares(volumes)
        self.healthy = floored(shares.mean(dim=0), shares.std(dim=0))

    def map(self, volumes: Volumes) -> Volumes:
        """Deviation of each voxel's bin in healthy standard deviations, clipped at 0."""
        shares = self._shares(volumes)
        deviation = ((shares - self.healthy.mean) / self.healthy.spread).clamp(min=0)
        return deviation.gather(1, self._bins(volumes).flatten(1)).reshape(volumes.shape)

    def _bins(self, volumes: Volumes) -> Tensor:
        return ((volumes + 1) / 2 * self.BINS).long().clamp(0, self.BINS - 1)

    def _shares(self, volumes: Volumes) -> Tensor:
        bins = self._bins(volumes).flatten(1)
        counts = torch.zeros(len(volumes), self.BINS, device=volumes.device)
        return (
            counts.scatter_add(1, bins, torch.ones(bins.shape, device=volumes.device))
            / bins.shape[1]
        )


class Equalised:
    """Brightness after histogram equalisation: the share of voxels that are darker.

    Reference: Meissen et al. 2021, Challenging current semi-supervised anomaly segmentation methods
        for brain MRI, arXiv 2109.06023.
    """

    def fit(self, volumes: Volumes) -> None:
        """Does nothing."""

    def map(self, volumes: Volumes) -> Volumes:
        """The rank of each voxel among those of the scan, from 0 to 1."""
        flat = volumes.flatten(1)
        ranks = flat.argsort(dim=1).argsort(dim=1).float() / flat.shape[1]
        return ranks.reshape(volumes.shape)


class Atlas:
    """Deviation from the healthy mean at each voxel in healthy standard deviations."""

    def fit(self, volumes: Volumes) -> None:
        """Mean and spread at each voxel."""
        self.healthy = floored(volumes.mean(dim=0), volumes.std(dim=0))

    def map(self, volumes: Volumes) -> Volumes:
        """Absolute value."""
        return self.healthy.standardise(volumes).abs()


class Bright:
    """Intensity; calibration makes it a signed z-score."""

    def fit(self, volumes: Volumes) -> None:
        """Does nothing."""

    def map(self, volumes: Volumes) -> Volumes:
        """The volume itself."""
        return volumes


class Dark:
    """Intensity with the opposite sign; calibration makes it a signed z-score."""

    def fit(self, volumes: Volumes) -> None:
        """Does nothing."""

    def map(self, volumes: Volumes) -> Volumes:
        """The volume, darkest highest."""
        return -volumes


class Pca:
    """Residual of a projection onto principal components of healthy scans."""

    def __init__(self, components: int = 60) -> None:
        self.components = components

    def fit(self, volumes: Volumes) -> None:
        """Mean and principal components."""
        self.mean = volumes.flatten(1).mean(dim=0)
        _, _, rows = torch.linalg.svd(volumes.flatten(1) - self.mean, full_matrices=False)
        self.rows = rows[: self.components]

    def map(self, volumes: Volumes) -> Volumes:
        """Absolute residual."""
        rest = volumes.flatten(1) - self.mean
        rest = rest - (rest @ self.rows.T) @ self.rows
        return rest.abs().reshape(volumes.shape)


class BlurResidual:
    """Difference of a scan from its smoothed self, without any training."""

    def __init__(self, sigma: float = 2.0) -> None:
        self.sigma = sigma

    def fit(self, volumes: Volumes) -> None:
        """Does nothing."""

    def map(self, volumes: Volumes) -> Volumes:
        """Absolute value."""
        return (volumes - smoothed(volumes, self.sigma)).abs()


class LocalFeatures:
    """Position-wise Mahalanobis distance of hand-made features at several scales.

    Intensities smoothed at three scales, their differences, local standard deviations and gradient
    magnitudes, with a Gaussian at each position.

    Reference: the idea of Defard et al. 2021, PaDiM, arXiv 2011.08785, without a network.
    """

    BATCH = 8

    def fit(self, volumes: Volumes) -> None:
        """One Gaussian at each position."""
        parts = volumes.split(self.BATCH)
        self.density = FeatureDensity.fit(local_features(part) for part in parts)

    def map(self, volumes: Volumes) -> Volumes:
        """Distances."""
        parts = volumes.split(self.BATCH)
        return torch.cat([self.density.distance(local_features(part)) for part in parts])


SIMPLE: dict[str, type[Scorer]] = {
    "histogram": Histogram,
    "equalised": Equalised,
    "atlas": Atlas,
    "dark z-score": Dark,
    "bright z-score": Bright,
    "pca": Pca,
    "blur": BlurResidual,
    "local_features": LocalFeatures,
}
