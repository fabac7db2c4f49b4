"""The model's grid: from the grid of a scan and back.

MONAI's `Orientation`, `Spacing`, `GaussianSmooth` and `ResizeWithPadOrCrop` give the same numbers,
and tests compare them; importing MONAI takes longer than scoring twenty scans.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from nibabel import orientations
from scipy import ndimage
from scipy.special import erf

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError
from medgan.core.volume import Volume

MAX_VOXELS = 2**28
"""Voxels that a scan may have once it is resampled to the model's spacing: 1 GiB as float32, of
which resampling takes several times as much."""
_ALIKE = 1e-3
"""Spacings in mm that differ by less are the same."""

Shape = tuple[int, ...]


class Record(NamedTuple):
    """What was done to a scan on its way to the model's grid.

    Attributes:
        orientation: of its axes, as nibabel gives it.
        shape: in RAS+, before it was resampled.
        factors: its voxels in one of the model, along R, A and S.
        resampled: its shape after that.
    """

    orientation: Float[np.ndarray, "3 2"]
    shape: Shape
    factors: tuple[float, ...]
    resampled: Shape


class Grid:
    """The model's grid: RAS+, resampled, cropped or padded about the centre; and the way back.

    Origin and rotation are dropped after RAS+, so that what a network sees depends on the
    voxels and their spacing alone: the same scan stored in any axis order gives the same
    numbers to the last bit.

    Args:
        preprocessing: the model's.
        labels: whether label maps are resampled (nearest value) and not images.
    """

    def __init__(self, preprocessing: Preprocessing, labels: bool = False) -> None:
        self._spacing, self._labels = preprocessing.spacing, labels
        self._shape = None if preprocessing.patches else preprocessing.shape

    def resample(
        self, data: Float[np.ndarray, "C X Y Z"], affine: np.ndarray
    ) -> tuple[Float[np.ndarray, "C X2 Y2 Z2"], Record]:
        """Voxels of a scan in RAS+ at the model's spacing, its whole field of view."""
        orientation = orientations.io_orientation(affine)
        oriented = np.stack([orientations.apply_orientation(one, orientation) for one in data])
        order = np.argsort(orientation[:, 0])
        spacing = np.linalg.norm(affine[:3, :3], axis=0).round(5)[order]
        wanted = np.where(abs(spacing - self._spacing) <= _ALIKE, spacing, self._spacing)
        factors = wanted / spacing
        if not self._labels:
            oriented = _anti_aliased(oriented, np.asarray(self._spacing) / spacing)
        spans = (np.asarray(oriented.shape[1:]) - 1) * spacing / wanted
        shape = tuple(int(n) for n in np.round(spans + 1))
        record = Record(orientation, oriented.shape[1:], tuple(map(float, factors)), shape)
        return _interpolated(oriented, shape, record.factors, self._labels), record

    def crop(self, resampled: Float[np.ndarray, "C X Y Z"]) -> Float[np.ndarray, "C X2 Y2 Z2"]:
        """The model's field of view, about the centre; all where networks see patches."""
        if self._shape is None:
            return resampled
        return _centred(resampled, self._shape, 0.0 if self._labels else -1.0)

    def back(
        self, data: Float[np.ndarray, "X Y Z"], record: Record, outside: float
    ) -> Float[np.ndarray, "I J K"]:
        """A map of the model's grid on the grid that a scan came from.

        Args:
            data: on the model's grid.
            record: of the scan.
            outside: value beyond the model's field of view.
        """
        values = np.asarray(data, np.float32)[None]
        if self._shape is not None:
            values = _back_from_centre(values, record.resampled, outside)
        factors = tuple(1 / factor for factor in record.factors)
        values = _interpolated(values, record.shape, factors, self._labels)[0]
        axes = orientations.axcodes2ornt("RAS")
        to_scan = orientations.ornt_transform(axes, record.orientation)
        return np.ascontiguousarray(orientations.apply_orientation(values, to_scan), np.float32)


@dataclass(frozen=True)
class Centred:
    """A scan on the grid about its own centre, and the way back.

    Attributes:
        grid, label_grid: of images and of label maps.
        record: what was done to the scan.
        affine: of the scan.
    """

    grid: Grid
    label_grid: Grid
    record: Record
    affine: Float[np.ndarray, "4 4"]

    def back(self, data: Float[np.ndarray, "X Y Z"], outside: float) -> Float[np.ndarray, "I J K"]:
        """A map of the model's grid on the scan's own."""
        return self.grid.back(data, self.record, outside)

    def label_map(self, label: Volume) -> Int[np.ndarray, "X Y Z"]:
        """A label map on the model's grid, by the geometry of the scan."""
        data = np.asarray(label.data, dtype=np.float32)[None]
        values, _ = self.label_grid.resample(data, self.affine)
        return np.ascontiguousarray(self.label_grid.crop(values)[0].round(), np.int32)


def _interpolated(
    data: Float[np.ndarray, "C X Y Z"], shape: Shape, factors: Sequence[float], nearest: bool
) -> Float[np.ndarray, "C X2 Y2 Z2"]:
    """Linear interpolation, or the nearest value, along one axis after the other.

    Args:
        data: whose first voxel stays where it is.
        shape: wanted.
        factors: voxels of `data` in a wanted one; beyond its border, the border's values.
        nearest: whether values are not mixed.
    """
    result = np.asarray(data, np.float32)
    for axis, (size, factor) in enumerate(zip(shape, factors, strict=True), start=1):
        last = result.shape[axis] - 1
        if factor == 1 and size == last + 1:
            continue
        position = np.clip(np.arange(size) * factor, 0, last)
        if nearest:
            result = result.take(np.rint(position).astype(int), axis)
            continue
        below = np.minimum(position.astype(int), max(last - 1, 0))
        share = (position - below).astype(np.float32)
        share = share.reshape([-1 if n == axis else 1 for n in range(4)])
        low, high = result.take(below, axis), result.take(np.minimum(below + 1, last), axis)
        high -= low
        high *= share
        low += high
        result = low
    return np.ascontiguousarray(result)


def _centred(
    data: Float[np.ndarray, "C X Y Z"], shape: Shape, outside: float
) -> Float[np.ndarray, "C X2 Y2 Z2"]:
    """Cropped to a shape about its centre, and padded with `outside` where it is smaller."""
    result = np.full((len(data), *shape), outside, data.dtype)
    of_data, of_result = _common(data.shape[1:], shape)
    result[(slice(None), *of_result)] = data[(slice(None), *of_data)]
    return result


def _back_from_centre(
    data: Float[np.ndarray, "C X Y Z"], shape: Shape, outside: float
) -> Float[np.ndarray, "C X2 Y2 Z2"]:
    """The inverse of `_centred`: `outside` where the crop left something out."""
    result = np.full((len(data), *shape), outside, data.dtype)
    of_result, of_data = _common(shape, data.shape[1:])
    result[(slice(None), *of_result)] = data[(slice(None), *of_data)]
    return result


def _common(large: Shape, small: Shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What a grid and its crop or padding about the centre share, in the indices of each."""
    of_large, of_small = [], []
    for a, b in zip(large, small, strict=True):
        start, length = max(0, a // 2 - b // 2), min(a, b)
        of_large.append(slice(start, start + length))
        padded = max(0, b - a) // 2
        of_small.append(slice(padded, padded + length))
    return tuple(of_large), tuple(of_small)


def _anti_aliased(
    data: Float[np.ndarray, "C X Y Z"], factors: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "C X Y Z"]:
    """Blurred along axes that will be coarsened, as resampling alone would alias noise.

    The sigma is (factor - 1) / 2 voxels, as in scikit-image; the window is the integral of a
    normal density over each voxel, and what lies outside counts as 0.
    """
    for axis, factor in enumerate(factors, start=1):
        sigma = (factor - 1) / 2
        if sigma <= 0:
            continue
        edges = np.arange(-int(max(4 * sigma, 0.5) + 0.5), int(max(4 * sigma, 0.5) + 0.5) + 2) - 0.5
        window = np.diff(erf(edges / (sigma * math.sqrt(2)))) / 2
        data = ndimage.correlate1d(data, window, axis, mode="constant")
    return data


def check_resampled_size(scan: Volume, spacing: Sequence[float], case: str) -> None:
    """Refuses a scan that resampling would blow up or shrink to nothing.

    Args:
        scan: in its own grid.
        spacing: of the model, in mm along R, A and S.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: E_SIZE.
    """
    size = scan.field_of_view / np.asarray(spacing)
    if math.prod(size.tolist()) <= MAX_VOXELS and size.min() >= 1:
        return
    extent = " x ".join(f"{mm:.3g}" for mm in scan.field_of_view)
    raise DataError(
        "E_SIZE", case, f"a field of view of {extent} mm, which the model cannot take",
        "check the voxel size in its header, or crop it",
    )  # fmt: skip
