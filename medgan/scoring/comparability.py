"""Whether a scan is of the kind that a model knows: if not, its score means nothing.

A p-value says how rare a score is among healthy scans of the same kind. A chest under a model of
brains, a head lying on its side or a wrong window would get one too. So each new scan is first
held beside the calibration scans: its intensities, its anatomy, its geometry and how well the
generator can draw it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Map = Float[np.ndarray, "X Y Z"]
QUANTILES = 33
_MARGIN = 0.75
"""How far beyond the strangest calibration scan is still comparable, as a share of the distance
of that one from the median: forty calibration scans have not seen everything."""
REASONS = {
    "intensities": "its intensities are distributed unlike those of the healthy scans",
    "anatomy": "its anatomy does not lie where that of the healthy scans does",
    "extent": "its field of view differs from that of the healthy scans",
    "latent": "the model cannot place it among the healthy scans",
    "reconstruction": "the model cannot draw anything like it",
}


@dataclass(frozen=True)
class Typical:
    """What the calibration scans look like.

    Attributes:
        quantiles: (Q,) mean quantiles of their intensities.
        mean: (X, Y, Z), their mean.
        limits: of each measure, by name, the value beyond which a scan is not comparable.
    """

    quantiles: Float[np.ndarray, " Q"]
    mean: Map
    limits: Mapping[str, float]

    def reasons(self, measures: Mapping[str, float]) -> list[str]:
        """Names of the measures that lie beyond their limit; none when comparable."""
        return [name for name, limit in self.limits.items() if measures[name] > limit]


def typical(volumes: Sequence[Map], others: Mapping[str, Sequence[float]] | None = None) -> Typical:
    """Learns from calibration scans; each is measured against the others.

    Args:
        volumes: on the model's grid, in [-1, 1].
        others: further measures of the same scans, by name; higher is stranger.
    """
    stack = np.stack([v.astype(np.float32) for v in volumes])
    rows = np.stack([quantiles(v) for v in stack])
    count, total = len(stack), stack.sum(axis=0, dtype=np.float64)
    measured: dict[str, list[float]] = {"intensities": [], "anatomy": []}
    for volume, row in zip(stack, rows, strict=True):
        rest = Typical(
            (rows.sum(axis=0) - row) / (count - 1),
            ((total - volume) / (count - 1)).astype(np.float32),
            {},
        )
        for name, value in measure(rest, volume).items():
            measured[name].append(value)
    measured |= {name: list(values) for name, values in (others or {}).items()}
    return Typical(
        rows.mean(axis=0),
        (total / count).astype(np.float32),
        {name: limit(values) for name, values in measured.items()},
    )


def measure(known: Typical, volume: Map) -> dict[str, float]:
    """How far a scan's intensities and anatomy are from typical ones.

    Intensities: mean distance of quantiles, in [-1, 1]. Anatomy: one minus the correlation with
    the mean scan, from 0 (the same) to 2.
    """
    intensities = float(np.abs(quantiles(volume) - known.quantiles).mean())
    a, b = volume - volume.mean(), known.mean - known.mean.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    anatomy = 1 - float((a * b).sum()) / norm if norm > 0 else 1.0
    return {"intensities": intensities, "anatomy": anatomy}


def quantiles(volume: Map) -> Float[np.ndarray, " Q"]:
    """Evenly spaced quantiles of a scan's intensities."""
    return np.quantile(volume, np.linspace(0, 1, QUANTILES))


def limit(values: Sequence[float]) -> float:
    """Beyond the strangest calibration scan, by a share of its distance from the median."""
    middle, strangest = float(np.median(values)), float(np.max(values))
    return strangest + _MARGIN * (strangest - middle)
