"""The template: the mean healthy scan, to which scans are aligned, and its standard deviation."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

PERCENTILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
"""Of the intensities inside the template, which standardisation brings to those of the template.

Reference: Nyúl, Udupa and Zhang 2000, New variants of a method of MRI scale standardization, IEEE
    TMI 19(2): deciles as landmarks.
"""
_INSIDE = -0.7
"""Above it, the mean scan is anatomy."""
LEAST_SPREAD = 0.25
"""Smallest standard deviation at a position, as a share of the mean one: where healthy scans hardly
differ, as in air, a small difference must not become a large one."""


def anatomy(mean: Float[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Where the anatomy of a mean scan in [-1, 1] lies, without holes."""
    return np.asarray(ndimage.binary_fill_holes(mean > _INSIDE))


def floored(
    spread: Float[np.ndarray, "X Y Z"], inside: Bool[np.ndarray, "X Y Z"]
) -> Float[np.ndarray, "X Y Z"]:
    """Standard deviations, at least `LEAST_SPREAD` of the mean one inside the anatomy."""
    return np.maximum(spread, LEAST_SPREAD * spread[inside].mean())


@dataclass(frozen=True, eq=False)
class Template:
    """Statistics of aligned training scans on the model's grid.

    Attributes:
        mean: (C, X, Y, Z) in [-1, 1].
        spread: (C, X, Y, Z), standard deviation.
        landmarks: (C, L) mean values at `PERCENTILES` inside.
        agreement: of a training scan with the mean after alignment (`Alignment`), the median.
    """

    mean: Float[np.ndarray, "C X Y Z"]
    spread: Float[np.ndarray, "C X Y Z"]
    landmarks: Float[np.ndarray, "C L"]
    agreement: float

    @cached_property
    def inside(self) -> Bool[np.ndarray, "X Y Z"]:
        """Where the anatomy of the first channel lies, without holes."""
        return anatomy(self.mean[0])

    @cached_property
    def floored_spread(self) -> Float[np.ndarray, "C X Y Z"]:
        """`floored`, channel by channel."""
        return np.stack([floored(one, self.inside) for one in self.spread])

    @cached_property
    def symmetry(self) -> float:
        """Correlation of the mean with its image mirrored from left to right."""
        mean = self.mean[0]
        return float(np.corrcoef(mean.ravel(), mean[::-1].ravel())[0, 1])

    @cached_property
    def digest(self) -> str:
        """Of all that a prepared scan depends on."""
        parts = (self.mean, self.spread, self.landmarks, np.array(self.agreement))
        found = hashlib.sha256()
        for part in parts:
            found.update(np.ascontiguousarray(part, np.float32).tobytes())
        return found.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)
