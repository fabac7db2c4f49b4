"""Comparability: whether a scan is of the kind of the calibration scans.

A p-value is valid for scans of the same kind only. A chest CT under a model of brains, a head lying
on its side or a wrong window would get one too. So intensities, anatomy, field of view, latent and
reconstruction error of each new scan are first compared with those of the calibration scans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

Map = Float[np.ndarray, "X Y Z"]
QUANTILES = 33
_MARGIN = {
    "intensities": 0.75,
    "anatomy": 0.75,
    "field_of_view": 0.75,
    "alignment": 3.0,
    "coverage": 0.75,
    "latent": 3.0,
    "reconstruction": 3.0,
}
"""Distance of each limit beyond the most extreme calibration scan, as a share of that scan's
distance from the median. Wider for measures that lesions change: scans with lesions must be scored.
"""
REASONS = {
    "intensities": "its intensities are distributed unlike those of the healthy scans",
    "anatomy": "its anatomy does not lie where that of the healthy scans does",
    "alignment": "it could not be aligned with the healthy scans",
    "coverage": "too much of the anatomy lies outside its field of view",
    "field_of_view": "its field of view differs from that of the healthy scans",
    "latent": "its latent lies far from those of the healthy scans",
    "reconstruction": "the model cannot reconstruct it",
}
_LEAST = {
    "intensities": 0.1,
    "anatomy": 0.05,
    "field_of_view": 0.5,
    "alignment": 0.05,
    "coverage": 0.5,
    "latent": 1.5,
    "reconstruction": 0.1,
}
"""Smallest distance of a limit from the median of the calibration scans, for measures in which they
hardly differ, such as fields of view of one scanner (log2)."""
_MIDDLE = slice(2, QUANTILES - 4)
"""Quantiles that a lesion hardly changes; it may change those above 87%."""
_ITERATIONS, _SMOOTHING = 20, 0.02
_GAIN_MARGIN, _MOST_GAIN = 1.03, 4.0
"""Smallest gain that is corrected, relative to the largest of the calibration scans (any gain above
1 where intensities are not comparable), and largest gain that a lesion can explain."""


@dataclass(frozen=True)
class ScanStatistics:
    """Statistics of a scan.

    Attributes:
        volume: (X, Y, Z) on the model's grid, in [-1, 1].
        field_of_view: (3,) of its own grid, in mm along R, A and S.
        latent: (L,), the encoder's; empty where the model has none.
        error: mean absolute difference from its reconstruction, or from the restored scan.
        agreement: with the template once aligned, 0 to 1; None for a model that does not align.
        unseen: share of the template's anatomy beyond the field of view.
    """

    volume: Map
    field_of_view: Float[np.ndarray, "3"]
    latent: Float[np.ndarray, " L"]
    error: float
    agreement: float | None = None
    unseen: float = 0.0

    @cached_property
    def quantiles(self) -> Float[np.ndarray, " Q"]:
        """Evenly spaced quantiles of intensities."""
        return _quantiles(self.volume)


@dataclass(frozen=True)
class ReferenceStatistics:
    """Statistics of the calibration scans.

    Attributes:
        quantiles: (Q,) mean quantiles of intensities.
        mean: (X, Y, Z), mean scan.
        field_of_view: (3,) geometric mean of the fields of view, in mm.
        latent: (L,) mean latent.
        limits: largest value of each measure at which a scan is comparable, by name.
        gain: largest linear gain that fits a calibration scan to the mean quantiles.
    """

    quantiles: Float[np.ndarray, " Q"]
    mean: Map
    field_of_view: Float[np.ndarray, "3"]
    latent: Float[np.ndarray, " L"]
    limits: Mapping[str, float]
    gain: float = np.inf

    def rescaling(self, volume: Map) -> tuple[float, float] | None:
        """Gain and offset for a scan whose contrast was compressed by very bright or dark tissue.

        Scans are scaled by percentiles. A large lesion that is brighter than all tissue shifts the
        upper percentile, and the rest of the scan becomes too dark. Gain and offset are estimated
        from the middle quantiles, which it does not shift.

        Args:
            volume: (X, Y, Z) in [-1, 1].

        Returns:
            Factor and summand, in this order; None where no correction is needed.
        """
        quantiles = _quantiles(volume)
        gain, offset = _linear(quantiles, self.quantiles)
        far = np.abs(quantiles - self.quantiles).mean() > self.limits["intensities"]
        compressed = gain > (1 if far else _GAIN_MARGIN * self.gain)
        return (gain, offset) if compressed and gain < _MOST_GAIN else None

    def reasons(self, statistics: ScanStatistics) -> tuple[str, ...]:
        """Names of the measures beyond their limit; none when comparable."""
        found = measure(self, statistics)
        return tuple(name for name, limit in self.limits.items() if found[name] > limit)


def reference_statistics(scans: Sequence[ScanStatistics]) -> ReferenceStatistics:
    """Estimated from calibration scans, each of which is measured against the others."""
    total = np.stack([scan.volume for scan in scans]).sum(axis=0, dtype=np.float64)
    measured = [
        measure(_of_scans([*scans[:n], *scans[n + 1 :]], total - scan.volume, {}), scan)
        for n, scan in enumerate(scans)
    ]
    limits = {n: limit([m[n] for m in measured], _MARGIN[n], _LEAST[n]) for n in measured[0]}
    known = _of_scans(scans, total, limits)
    gains = [_linear(scan.quantiles, known.quantiles)[0] for scan in scans]
    return replace(known, gain=float(max(gains)))


def _of_scans(
    scans: Sequence[ScanStatistics], total: np.ndarray, limits: Mapping[str, float]
) -> ReferenceStatistics:
    """Statistics of scans whose volumes add up to `total`."""
    return ReferenceStatistics(
        np.mean([scan.quantiles for scan in scans], axis=0),
        (total / len(scans)).astype(np.float32),
        np.exp2(np.mean([np.log2(scan.field_of_view) for scan in scans], axis=0)),
        np.mean([scan.latent for scan in scans], axis=0),
        limits,
    )


def _quantiles(volume: Map) -> Float[np.ndarray, " Q"]:
    return np.quantile(volume, np.linspace(0, 1, QUANTILES))


def _linear(
    quantiles: Float[np.ndarray, " Q"], target: Float[np.ndarray, " Q"]
) -> tuple[float, float]:
    """Gain and offset of the linear fit of the middle quantiles with least absolute deviations.

    By iteratively reweighted least squares.
    """
    x, y = quantiles[_MIDDLE], target[_MIDDLE]
    if np.ptp(x) == 0:
        return 1.0, 0.0
    columns, weights = np.stack([x, np.ones_like(x)], axis=1), np.ones_like(x)
    found = np.array([1.0, 0.0])
    for _ in range(_ITERATIONS):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(columns * root[:, None], y * root, rcond=None)[0]
        weights = 1 / (np.abs(columns @ found - y) + _SMOOTHING)
    return float(found[0]), float(found[1])


def measure(known: ReferenceStatistics, statistics: ScanStatistics) -> dict[str, float]:
    """Distances of a scan from the calibration scans.

    Intensities: mean distance of quantiles, in [-1, 1]. Anatomy: one minus the correlation with
    the mean scan, 0 to 2. Field of view: log2 of the ratio along the axis that differs most; of
    scans that were aligned in its place one minus the agreement with the template, and the share of
    its anatomy that they do not cover.
    Latent: root mean square deviation; latents drawn for synthetic scans have 1; left out where
    the model has no encoder.
    Reconstruction: mean absolute difference.
    """
    a, b = statistics.volume - statistics.volume.mean(), known.mean - known.mean.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    latent = (statistics.latent - known.latent) ** 2
    if statistics.agreement is None:
        ratio = np.log2(statistics.field_of_view / known.field_of_view)
        view = {"field_of_view": float(np.abs(ratio).max())}
    else:  # where a scan ends matters no more
        view = {"alignment": 1 - statistics.agreement, "coverage": statistics.unseen}
    return {
        "intensities": float(np.abs(statistics.quantiles - known.quantiles).mean()),
        "anatomy": 1 - float((a * b).sum()) / norm if norm > 0 else 1.0,
        **view,
        **({"latent": float(np.sqrt(latent.mean()))} if latent.size else {}),
        "reconstruction": statistics.error,
    }


def limit(values: Sequence[float], margin: float, least: float = 0.0) -> float:
    """The most extreme value plus a share of its distance from the median.

    Args:
        values: of the calibration scans.
        margin: the share.
        least: smallest distance of the limit from the median.
    """
    middle, extreme = float(np.median(values)), float(np.max(values))
    return max(extreme + margin * (extreme - middle), middle + least)
