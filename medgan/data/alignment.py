"""Where a template lies in a scan: the scan on the template's grid, and maps back on its own."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from medgan.core.volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

Shape = tuple[int, int, int]
_NO_BLUR = 0.05
"""Blurs of a smaller standard deviation, in voxels, are left out."""
_REACH = 3
"""Standard deviations of a blur that count."""


@dataclass(frozen=True)
class Alignment:
    """Where a template lies in a scan.

    Attributes:
        matrix: (4, 4), voxel indices of the template to those of the scan.
        agreement: squared correlation of the aligned scan with the template, 0 to 1.
        shapes: of the template's grid and of the scan's.
    """

    matrix: Float[np.ndarray, "4 4"]
    agreement: float
    shapes: tuple[Shape, Shape]

    def forward(self, data: Float[np.ndarray, "I J K"]) -> Float[np.ndarray, "X Y Z"]:
        """The scan on the template's grid, NaN beyond its field of view."""
        # As scikit-image: blurred before it is coarsened, as resampling alone would alias noise.
        sigma = np.maximum(0, (np.linalg.norm(self.matrix[:3, :3], axis=1) - 1) / 2)
        box = self._box(np.ceil(_REACH * sigma) + 2)
        part, matrix = np.asarray(data[box], np.float32), self.matrix.copy()
        matrix[:3, 3] -= [one.start for one in box]
        if sigma.max() > _NO_BLUR:
            part = ndimage.gaussian_filter(part, sigma, mode="nearest", truncate=_REACH)
        return resample(part, matrix, self.shapes[0], math.nan)

    def back(self, data: Float[np.ndarray, "X Y Z"], outside: float) -> Float[np.ndarray, "I J K"]:
        """A map on the template's grid on that of the scan."""
        return resample(data, np.linalg.inv(self.matrix), self.shapes[1], outside)

    def label_map(self, label: Volume) -> Int[np.ndarray, "X Y Z"]:
        """A label map of the scan on the template's grid."""
        values = resample(label.data, self.matrix, self.shapes[0], 0.0, nearest=True)
        return np.rint(values).astype(np.int32)

    def _box(self, margin: Float[np.ndarray, "3"]) -> tuple[slice, slice, slice]:
        """The part of the scan in which the template's grid lies, with a margin in voxels."""
        corners = np.array(list(itertools.product(*[(0, n - 1) for n in self.shapes[0]])))
        reached = corners @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        low, high = reached.min(axis=0) - margin, reached.max(axis=0) + margin
        x, y, z = (
            slice(int(np.clip(a, 0, n - 1)), int(np.clip(b, 1, n)))
            for a, b, n in zip(low, high, self.shapes[1], strict=True)
        )
        return x, y, z


def resample(
    data: np.ndarray,
    matrix: Float[np.ndarray, "4 4"],
    shape: Sequence[int],
    outside: float,
    nearest: bool = False,
) -> np.ndarray:
    """Voxels on another grid, float32, the first axis fastest as in files.

    Args:
        data: (I, J, K).
        matrix: indices of the result to those of `data`.
        shape: of the result.
        outside: value where `data` has none.
        nearest: takes the nearest voxel, for labels, in place of linear interpolation.
    """
    import SimpleITK as sitk

    grid = sitk.Image([int(n) for n in shape], sitk.sitkUInt8)
    how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    image, transform = sitk_image(data), _transform(matrix)
    moved = sitk.Resample(image, grid, transform, how, outside, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(moved).T


def grid_affine(shape: Sequence[int], spacing: Sequence[float]) -> Float[np.ndarray, "4 4"]:
    """Of the model's grid: RAS+, in mm from its centre."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.asarray(spacing) * (np.asarray(shape) - 1) / 2
    return affine


def sitk_image(data: np.ndarray) -> "sitk.Image":
    """An array (X, Y, Z) as float32, in voxels."""
    import SimpleITK as sitk

    return sitk.GetImageFromArray(np.ascontiguousarray(data.T, np.float32))


def _transform(matrix: np.ndarray) -> "sitk.AffineTransform":
    import SimpleITK as sitk

    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform
