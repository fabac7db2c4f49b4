"""What planting needs to know of a healthy scan: extent, tissue, intensities of its parts.

Volumes are on a model's grid, axes Right, Anterior, Superior, in [-1, 1].
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.core.volume import AIR

Array = Float[np.ndarray, "X Y Z"]
_RARE = 0.7
"""Voxels of fluid, relative to those of the cluster at the other end, in whole brains 0.5 to 0.6;
in crops around a hippocampus the darkest and the brightest cluster are alike."""
_DEEP, _BESIDE = 0.15, 0.08
"""Least distance of ventricles from the outside, and largest of a lesion from them, as shares of
the smallest extent of the tissue."""


@dataclass(frozen=True)
class Tissue:
    """What planting needs to know of a healthy scan; computed once where many are planted.

    Attributes:
        low, high: corners of the box around it, in voxels.
        inside: what is not air.
        share: of tissue at every voxel, 0 in air and fluid.
        voxels: (N, 3), every eighth of more than half tissue.
        fluid: intensity of fluid.
        unit: difference between the intensities of grey and white matter.
    """

    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    inside: Bool[np.ndarray, "X Y Z"]
    share: Array
    voxels: np.ndarray
    fluid: float
    unit: float

    @cached_property
    def beside_ventricles(self) -> np.ndarray:
        """(N, 3) of those voxels that lie along fluid deep inside; all where there is none."""
        half = self.share[::2, ::2, ::2]
        width = float((self.high - self.low).min()) / 2
        deep = np.asarray(ndimage.distance_transform_edt(self.inside[::2, ::2, ::2]))
        inner = (half < 0.5) & (deep > _DEEP * width)
        if not inner.any():
            return self.voxels
        near = np.asarray(ndimage.distance_transform_edt(~inner)) < _BESIDE * width
        found = 2 * np.argwhere(near & (half > 0.5))
        return found if len(found) else self.voxels


def tissue_of(volume: Array) -> Tissue:
    """Extent and intensities of a healthy scan.

    Intensities are in three clusters. Fluid is the darkest, as in T1 and FLAIR; or the brightest,
    as in T2, where that is much rarer than the darkest.

    Raises:
        DataError: E_LESION where there is no tissue.
    """
    inside = volume > AIR
    if not inside[::2, ::2, ::2].any():
        raise DataError("E_LESION", "the scan", "is empty", "use scans with tissue")
    lines = (np.flatnonzero(inside.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    corners = np.array([line[[0, -1]] for line in lines], np.float32)
    every = volume[::2, ::2, ::2]
    levels, counts = clusters(every[every > AIR], 3)
    dark = counts[2] >= _RARE * counts[0]
    fluid, middle, other = levels if dark else levels[::-1]
    share = ((volume - fluid) / (middle - fluid or 1.0)).clip(0, 1) * inside
    voxels = 2 * np.argwhere(share[::2, ::2, ::2] > 0.5)
    return Tissue(
        corners[:, 0], corners[:, 1], inside, share.astype(np.float32), voxels, float(fluid),
        float(abs(other - middle)),
    )  # fmt: skip


def clusters(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rising centres of k-means of numbers, and how many belong to each; from a histogram."""
    heights, edges = np.histogram(values, 128)
    middles = (edges[1:] + edges[:-1]) / 2
    total, weighted = (np.r_[0, np.cumsum(part)] for part in (heights, heights * middles))
    centres = np.quantile(values[:: max(1, len(values) // 4096)], (np.arange(count) + 0.5) / count)
    sizes = np.zeros(count)
    for _ in range(25):
        cuts = np.searchsorted(middles, (centres[1:] + centres[:-1]) / 2)
        cuts = np.r_[0, cuts, len(middles)]
        sizes = np.diff(total[cuts])
        centres = np.where(sizes > 0, np.diff(weighted[cuts]) / np.maximum(sizes, 1), centres)
    return centres, sizes
