"""Whether a scan is of the kind that a model knows: if not, its score means nothing.

A p-value says how rare a score is among healthy scans of the same kind. A chest under a model of
brains, a head lying on its side or a wrong window would get one too. So each new scan is first
held beside the calibration scans: its intensities, its anatomy, its geometry and how well the
generator can draw it.
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
    "latent": 3.0,
    "reconstruction": 3.0,
}
"""How far beyond the strangest calibration scan is still comparable, as a share of the distance
of that one from the median: forty calibration scans have not seen everything. Wider where lesions
show, which are to be scored and not turned away."""
REASONS = {
    "intensities": "its intensities are distributed unlike those of the healthy scans",
    "anatomy": "its anatomy does not lie where that of the healthy scans does",
    "field_of_view": "its field of view differs from that of the healthy scans",
    "latent": "the model cannot place it among the healthy scans",
    "reconstruction": "the model cannot draw anything like it",
}
_LEAST = {
    "intensities": 0.1,
    "anatomy": 0.05,
    "field_of_view": 0.5,
    "latent": 1.5,
    "reconstruction": 0.1,
}
"""Limits are at least so far beyond the median of the calibration scans: where these are all but
alike, as in one scanner's fields of view, a new one may differ a little. Extents in octaves."""


_MIDDLE = slice(2, QUANTILES - 4)
"""Quantiles that a lesion does not move by itself; above 87% it may."""
_ROUNDS, _CALM = 20, 0.02
_GAIN_MARGIN, _MOST_GAIN = 1.03, 4.0
"""How far the gain of a scan lies beyond those of all calibration scans before it is rescaled,
unless its intensities lie away from theirs altogether; and what no lesion explains."""


@dataclass(frozen=True)
class ScanStatistics:
    """What is measured of a scan.

    Attributes:
        volume: (X, Y, Z) on the model's grid, in [-1, 1].
        field_of_view: (3,) of its own grid, in mm along R, A and S.
        latent: (L,), the encoder's.
        error: mean absolute difference from its reconstruction.
    """

    volume: Map
    field_of_view: Float[np.ndarray, "3"]
    latent: Float[np.ndarray, " L"]
    error: float

    @cached_property
    def quantiles(self) -> Float[np.ndarray, " Q"]:
        """Evenly spaced quantiles of its intensities."""
        return _quantiles(self.volume)


@dataclass(frozen=True)
class ReferenceStatistics:
    """What the calibration scans statistics like.

    Attributes:
        quantiles: (Q,) mean quantiles of their intensities.
        mean: (X, Y, Z), their mean.
        field_of_view: (3,) geometric mean of their extents, in mm.
        latent: (L,) mean of their latents.
        limits: of each measure, by name, the value beyond which a scan is not comparable.
        gain: the largest that a calibration scan would need to have typical intensities.
    """

    quantiles: Float[np.ndarray, " Q"]
    mean: Map
    field_of_view: Float[np.ndarray, "3"]
    latent: Float[np.ndarray, " L"]
    limits: Mapping[str, float]
    gain: float = np.inf

    def rescaling(self, volume: Map) -> tuple[float, float] | None:
        """Gain and offset for a scan whose brightest or darkest tissue has squeezed all else.

        Scans are scaled by high and low percentiles. A lesion that is brighter than everything and
        not small is beyond the high one itself, and the rest comes out too dark. The middle of the
        distribution, which it does not reach, says by how much.

        Args:
            volume: (X, Y, Z) in [-1, 1].

        Returns:
            What to multiply by and then to add, None where nothing is to be done.
        """
        quantiles = _quantiles(volume)
        gain, offset = _linear(quantiles, self.quantiles)
        away = np.abs(quantiles - self.quantiles).mean() > self.limits["intensities"]
        squeezed = gain > (1 if away else _GAIN_MARGIN * self.gain)
        return (gain, offset) if squeezed and gain < _MOST_GAIN else None

    def reasons(self, statistics: ScanStatistics) -> tuple[str, ...]:
        """Names of the measures that lie beyond their limit; none when comparable."""
        found = measure(self, statistics)
        return tuple(name for name, limit in self.limits.items() if found[name] > limit)


def reference_statistics(scans: Sequence[ScanStatistics]) -> ReferenceStatistics:
    """Learns from calibration scans; each is measured against the others."""
    total = np.stack([scan.volume for scan in scans]).sum(axis=0, dtype=np.float64)
    measured = [
        measure(_of_scans([*scans[:n], *scans[n + 1 :]], total - scan.volume, {}), scan)
        for n, scan in enumerate(scans)
    ]
    limits = {n: limit([m[n] for m in measured], _MARGIN[n], _LEAST[n]) for n in REASONS}
    known = _of_scans(scans, total, limits)
    gains = [_linear(scan.quantiles, known.quantiles)[0] for scan in scans]
    return replace(known, gain=float(max(gains)))


def _of_scans(
    scans: Sequence[ScanStatistics], total: np.ndarray, limits: Mapping[str, float]
) -> ReferenceStatistics:
    """Of some scans, whose volumes add up to `total`."""
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
    """Gain and offset that bring the middle quantiles nearest to others, by absolute distance.

    Absolute distances are minimised by weighted squares.
    """
    x, y = quantiles[_MIDDLE], target[_MIDDLE]
    if np.ptp(x) == 0:
        return 1.0, 0.0
    columns, weights = np.stack([x, np.ones_like(x)], axis=1), np.ones_like(x)
    found = np.array([1.0, 0.0])
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(columns * root[:, None], y * root, rcond=None)[0]
        weights = 1 / (np.abs(columns @ found - y) + _CALM)
    return float(found[0]), float(found[1])


def measure(known: ReferenceStatistics, statistics: ScanStatistics) -> dict[str, float]:
    """How far a scan is from typical ones.

    Intensities: mean distance of quantiles, in [-1, 1]. Anatomy: one minus the correlation with
    the mean scan, from 0 (the same) to 2. Extent: octaves along the axis that differs most.
    Latent: root mean square of its deviation; latents drawn for synthetic scans have 1.
    Reconstruction: mean absolute difference.
    """
    a, b = statistics.volume - statistics.volume.mean(), known.mean - known.mean.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return {
        "intensities": float(np.abs(statistics.quantiles - known.quantiles).mean()),
        "anatomy": 1 - float((a * b).sum()) / norm if norm > 0 else 1.0,
        "field_of_view": float(
            np.abs(np.log2(statistics.field_of_view / known.field_of_view)).max()
        ),
        "latent": float(np.sqrt(((statistics.latent - known.latent) ** 2).mean())),
        "reconstruction": statistics.error,
    }


def limit(values: Sequence[float], margin: float, least: float = 0.0) -> float:
    """Beyond the strangest calibration scan, by a share of its distance from the median.

    Args:
        values: of the calibration scans.
        margin: that share.
        least: distance from the median that is always allowed.
    """
    middle, strangest = float(np.median(values)), float(np.max(values))
    return max(strangest + margin * (strangest - middle), middle + least)
