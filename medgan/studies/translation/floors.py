"""What a translation has to beat: a constant, the mean image, and a regression on local features.

All three minimise the absolute error on training patients, by which translations are judged.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from medgan.studies.translation.features import Features, local, position
from medgan.studies.translation.scans import PairedScan

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

VOXELS = 20_000
"""Voxels of a patient that a regression learns from."""
_OUTSIDE = 0.2
"""Share of them outside of the body, so that air is air."""


class Floor(Protocol):
    """Source channels to one target channel, without a network."""

    def __call__(self, scan: PairedScan) -> np.ndarray:
        """The target, (X, Y, Z) float32, in its own unit."""
        ...


class Constant:
    """The median of the target inside the body, and that outside.

    Args:
        scans: of training patients.
        channel: the target.
    """

    def __init__(self, scans: Iterable[PairedScan], channel: str) -> None:
        inside, outside = [], []
        for scan in scans:
            target, seen = scan.target[channel], np.isfinite(scan.target[channel])
            inside.append(target[scan.region(channel)])
            outside.append(target[seen & ~scan.body])
        self._inside = float(np.median(np.concatenate(inside)))
        air = np.concatenate(outside)
        self._outside = float(np.median(air)) if len(air) else self._inside

    def __call__(self, scan: PairedScan) -> np.ndarray:
        """Two values."""
        return np.where(scan.source_body, self._inside, self._outside).astype(np.float32)


class Regression:
    """Gradient-boosted trees of voxels' features, fitted to the least absolute error.

    Args:
        scans: of training patients.
        channel: the target.
        features: of voxels.
        seed: of the voxels.
    """

    def __init__(
        self, scans: Iterable[PairedScan], channel: str, features: Features, seed: int = 0
    ) -> None:
        random = np.random.default_rng(seed)
        self._features = features
        drawn = [_drawn(scan, channel, features, random) for scan in scans]
        inputs, targets = (np.concatenate(part) for part in zip(*drawn, strict=True))
        self._trees = _trees().fit(inputs, targets)

    def __call__(self, scan: PairedScan) -> np.ndarray:
        """A value for every voxel."""
        features = self._features(scan)
        found = self._trees.predict(features.reshape(-1, features.shape[-1]))
        return np.asarray(found, np.float32).reshape(features.shape[:3])


def fit_floors(scans: list[PairedScan], channel: str, seed: int = 0) -> dict[str, Floor]:
    """All floors by name, from the weakest to the strongest.

    The mean image is the expected target at a place of the body: crops around tumours of an arm, a
    leg or the trunk have no common grid on which images could be averaged voxel by voxel.

    Args:
        scans: of training patients.
        channel: the target.
        seed: of the voxels that regressions learn from.
    """
    return {
        "constant": Constant(scans, channel),
        "mean image": Regression(scans, channel, position, seed),
        "regression": Regression(scans, channel, local, seed),
    }


def _trees() -> "HistGradientBoostingRegressor":
    """Sizes between the two best of five on validation patients, MR to CT, all within 2%."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=300, learning_rate=0.05, max_leaf_nodes=63,
        min_samples_leaf=200, early_stopping=False,  # pyright: ignore[reportArgumentType]
        random_state=0,
    )  # fmt: skip


def _drawn(
    scan: PairedScan, channel: str, features: Features, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets of random voxels in and outside of the body."""
    seen = np.logical_and.reduce([np.isfinite(image) for image in scan.source.values()])
    seen &= np.isfinite(scan.target[channel])
    region = scan.region(channel)
    inside = _some(np.flatnonzero(region), round(VOXELS * (1 - _OUTSIDE)), random)
    # Never more outside than inside: where most targets are the same air, trees stay at it.
    outside = round(len(inside) * _OUTSIDE / (1 - _OUTSIDE))
    at = np.concatenate([inside, _some(np.flatnonzero(seen & ~region), outside, random)])
    found = features(scan)
    return found.reshape(-1, found.shape[-1])[at], scan.target[channel].ravel()[at]


def _some(voxels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return random.choice(voxels, min(len(voxels), count), replace=False)
