"""Simple ways to find what is unusual, which every learned one has to beat.

All share one interface: they learn from healthy training volumes and give a map of a new one. What
a map is worth, calibration says, for these as for the model's own.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import local_features, smoothed

Volumes = Float[Tensor, "B 1 X Y Z"]


@runtime_checkable
class Scorer(Protocol):
    """Gives maps, one value a voxel, higher is stranger."""

    def fit(self, volumes: Volumes) -> None:
        """Learns from healthy training volumes in [-1, 1]."""
        ...

    def map(self, volumes: Volumes) -> Volumes:
        """Maps of new volumes on the same grid."""
        ...


class Histogram:
    """How much more of a scan has an intensity than of healthy scans, at every voxel that has it.

    Reference: Meissen et al. 2022, arXiv 2212.06506, whose scan score is a distance of histograms.
    """

    BINS = 64

    def fit(self, volumes: Volumes) -> None:
        """Mean and spread of the share of each bin."""
        shares = self._shares(volumes)
        self.mean, spread = shares.mean(dim=0), shares.std(dim=0)
        self.spread = spread.clamp(min=float(spread.mean()) / 4)

    def map(self, volumes: Volumes) -> Volumes:
        """Deviation of each voxel's bin in healthy spreads, below none."""
        deviation = ((self._shares(volumes) - self.mean) / self.spread).clamp(min=0)
        return deviation.gather(1, self._bins(volumes).flatten(1)).reshape(volumes.shape)

    def _bins(self, volumes: Volumes) -> Tensor:
        return ((volumes + 1) / 2 * self.BINS).long().clamp(0, self.BINS - 1)

    def _shares(self, volumes: Volumes) -> Tensor:
        bins = self._bins(volumes).flatten(1)
        counts = torch.zeros(len(volumes), self.BINS)
        return counts.scatter_add(1, bins, torch.ones(bins.shape)) / bins.shape[1]


class Equalised:
    """Brightness after histogram equalisation: the share of the scan's tissue that is darker.

    Reference: Meissen et al. 2021, Challenging current semi-supervised anomaly segmentation methods
        for brain MRI, arXiv 2109.06023.
    """

    def fit(self, volumes: Volumes) -> None:
        """Has nothing to learn."""

    def map(self, volumes: Volumes) -> Volumes:
        """The rank of each voxel among those of the scan, from 0 to 1."""
        flat = volumes.flatten(1)
        ranks = flat.argsort(dim=1).argsort(dim=1).float() / flat.shape[1]
        return ranks.reshape(volumes.shape)


class Atlas:
    """Deviation from the healthy mean at each voxel in healthy spreads."""

    def fit(self, volumes: Volumes) -> None:
        """Mean and spread at each voxel."""
        self.mean, spread = volumes.mean(dim=0), volumes.std(dim=0)
        self.spread = spread.clamp(min=float(spread.mean()) / 4)

    def map(self, volumes: Volumes) -> Volumes:
        """Its magnitude."""
        return ((volumes - self.mean) / self.spread).abs()


class Pca:
    """What the principal components of healthy scans cannot draw."""

    def __init__(self, components: int = 60) -> None:
        self.components = components

    def fit(self, volumes: Volumes) -> None:
        """Mean and principal components."""
        self.mean = volumes.flatten(1).mean(dim=0)
        _, _, rows = torch.linalg.svd(volumes.flatten(1) - self.mean, full_matrices=False)
        self.rows = rows[: self.components]

    def map(self, volumes: Volumes) -> Volumes:
        """The magnitude of the rest."""
        rest = volumes.flatten(1) - self.mean
        rest = rest - (rest @ self.rows.T) @ self.rows
        return rest.abs().reshape(volumes.shape)


class BlurResidual:
    """Difference of a scan from itself, smoothed: no anatomy is learned."""

    def __init__(self, sigma: float = 2.0) -> None:
        self.sigma = sigma

    def fit(self, volumes: Volumes) -> None:
        """Has nothing to learn."""

    def map(self, volumes: Volumes) -> Volumes:
        """Its magnitude."""
        return (volumes - smoothed(volumes, self.sigma)).abs()


class LocalFeatures:
    """Position-wise Mahalanobis distance of hand-made features at several scales.

    Intensities smoothed at three scales, the differences of these, local deviations and the size of
    the gradient: nothing is trained but one Gaussian at each position.

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
    "pca": Pca,
    "blur": BlurResidual,
    "local_features": LocalFeatures,
}
