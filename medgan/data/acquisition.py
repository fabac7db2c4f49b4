"""Acquisition: how the slices of a scanner come from fine anatomy, and the way back.

A separable linear operator. Along each axis that is coarse, a sample is the mean of the fine grid
under a Gaussian slice profile, whose full width at half maximum is the slice thickness; samples
are thickness + gap apart. The other axes stay as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from scipy.special import ndtr

from medgan.core.volume import Volume

Interpolation = Literal["nearest", "linear", "cubic", "sinc"]
_SIGMA = 1 / math.sqrt(8 * math.log(2))
"""Standard deviation of a Gaussian in its full width at half maximum."""
_LOBES = 5
"""Of the sinc on either side, windowed by the central lobe of a wider one (Lanczos)."""
_WEAKEST = 0.05
"""Singular values of the operator below this share of the largest are not inverted: noise along
them would be blown up more than twentyfold. Slices that touch or have gaps have none."""
_ROUNDING = 1e-5
"""Relative error of a spacing in a header."""
_ALIKE = 1.2
"""Ratio of two spacings up to which voxels stay as they are: resampling would only blur them."""


@dataclass(frozen=True, eq=False)
class Slices:
    """Samples along one axis of a fine grid, in its voxels.

    Attributes:
        size: voxels of the fine grid.
        first: position of the first sample's centre; 0 is the centre of the first voxel.
        distance: from centre to centre, thickness + gap.
        count: of samples.
        thickness: full width at half maximum of the profile.
    """

    size: int
    first: float
    distance: float
    count: int
    thickness: float

    @classmethod
    def within(cls, size: int, distance: float, thickness: float) -> "Slices":
        """As many as lie in a fine grid as a whole, about its centre."""
        count = max(1, math.floor(size / distance + _ROUNDING))
        return cls(size, _first(size, count, distance), distance, count, thickness)

    @classmethod
    def covering(cls, count: int, distance: float, thickness: float) -> "Slices":
        """Those of a scan, about the centre of the smallest fine grid that covers them all."""
        size = math.ceil(count * distance - _ROUNDING * count)
        return cls(size, _first(size, count, distance), distance, count, thickness)

    def moved(self, share: float) -> "Slices":
        """Moved by a share, -0.5 to 0.5, of the room that the grid leaves them."""
        room = max(0.0, self.size - self.count * self.distance)
        return replace(self, first=self.first + share * room)

    @property
    def last(self) -> float:
        """Position of the last sample's centre."""
        return self.first + self.distance * (self.count - 1)

    @cached_property
    def weights(self) -> Float[np.ndarray, "N M"]:
        """Of each fine voxel in each sample: the profile's integral over it; rows sum to 1."""
        centres = self.first + self.distance * np.arange(self.count)
        edges = np.arange(self.size + 1) - 0.5
        below = ndtr((edges - centres[:, None]) / (_SIGMA * self.thickness))
        weights = np.diff(below, axis=1)
        return weights / weights.sum(axis=1, keepdims=True)

    @cached_property
    def inverse(self) -> Float[np.ndarray, "M N"]:
        """Pseudo-inverse of the weights by their singular values, without the weakest."""
        return np.linalg.pinv(self.weights, rcond=_WEAKEST)

    @cached_property
    def offsets(self) -> Float[np.ndarray, " M"]:
        """How far each fine voxel lies beyond the centre of the sample that is nearest."""
        beyond = np.arange(self.size) - self.first
        nearest = np.rint(beyond / self.distance).clip(0, self.count - 1)
        return beyond - nearest * self.distance

    def interpolation(self, method: Interpolation) -> Float[np.ndarray, "M N"]:
        """Of each sample in each fine voxel; beyond the outermost samples, as at them."""
        at = ((np.arange(self.size) - self.first) / self.distance).clip(0, self.count - 1)
        if method == "sinc":
            return _windowed_sinc(at, self.count)
        order = {"nearest": 0, "linear": 1, "cubic": 3}[method]
        columns = [
            ndimage.map_coordinates(one, [at], order=order, mode="nearest")
            for one in np.eye(self.count)
        ]
        return np.stack(columns, axis=1)


@dataclass(frozen=True, eq=False)
class Acquisition:
    """A scanner's coarse scan from fine anatomy.

    Attributes:
        axes: the samples along each of the three axes; None where these are the fine voxels.
    """

    axes: tuple[Slices | None, Slices | None, Slices | None]

    @classmethod
    def along(cls, axis: int, slices: Slices) -> "Acquisition":
        """Coarse along one axis."""
        x, y, z = (slices if number == axis else None for number in range(3))
        return cls((x, y, z))

    @classmethod
    def simulated(
        cls, shape: Sequence[int], axis: int, distance: float, thickness: float
    ) -> "Acquisition":
        """Of a fine grid, coarse along one axis; distance and thickness in its voxels."""
        return cls.along(axis, Slices.within(shape[axis], distance, thickness))

    def degrade(self, fine: Float[np.ndarray, "*C X Y Z"]) -> Float[np.ndarray, "*C I J K"]:
        """What the scanner makes of fine anatomy."""
        return _along(fine, [slices and slices.weights for slices in self.axes])

    def adjoint(self, coarse: Float[np.ndarray, "*C I J K"]) -> Float[np.ndarray, "*C X Y Z"]:
        """The transpose of `degrade`."""
        return _along(coarse, [slices and slices.weights.T for slices in self.axes])

    def interpolate(
        self, coarse: Float[np.ndarray, "*C I J K"], method: Interpolation = "cubic"
    ) -> Float[np.ndarray, "*C X Y Z"]:
        """A coarse scan on the fine grid, each sample at the place of its centre.

        Args:
            coarse: the scan.
            method: nearest; linear; cubic, a spline of order 3; or sinc, with a Lanczos window.
        """
        return _along(coarse, [slices and slices.interpolation(method) for slices in self.axes])

    def deconvolved(self, coarse: Float[np.ndarray, "*C I J K"]) -> Float[np.ndarray, "*C X Y Z"]:
        """Cubic interpolation, projected: what a scan gives without knowing anatomy."""
        return self.project(self.interpolate(coarse), coarse)

    def offsets(self, shape: Sequence[int]) -> Float[np.ndarray, "3 X Y Z"]:
        """Along each axis how far each voxel lies beyond the nearest sample; 0 along a fine axis.

        They say where the scan was sampled, and how densely.

        Args:
            shape: of the fine grid.
        """
        along = np.zeros((3, *shape), np.float32)
        for axis, slices in enumerate(self.axes):
            if slices is not None:
                one = [-1 if number == axis else 1 for number in range(3)]
                along[axis] = slices.offsets.reshape(one)
        return along

    def project(
        self, fine: Float[np.ndarray, "*C X Y Z"], coarse: Float[np.ndarray, "*C I J K"]
    ) -> Float[np.ndarray, "*C X Y Z"]:
        """The anatomy nearest to `fine` from which the scanner makes `coarse`.

        x + A⁺ (y - A x), the orthogonal projection on all x with A x = y. Where profiles overlap
        so much that A hardly passes a pattern of slices on, that pattern stays as in `fine`.
        """
        missing = coarse - self.degrade(fine)
        return fine + _along(missing, [slices and slices.inverse for slices in self.axes])


@dataclass(frozen=True, eq=False)
class CoarseScan:
    """A scan of a file as the acquisition of a fine grid.

    Attributes:
        data: in RAS+; axes much finer than the fine grid are brought to its spacing.
        acquisition: from the fine grid to the data.
        affine: voxel indices of the fine grid to mm; the scan keeps its place and its obliqueness.
    """

    data: Float[np.ndarray, "I J K"]
    acquisition: Acquisition
    affine: Float[np.ndarray, "4 4"]


def coarse_scan(
    scan: Volume, spacing: Sequence[float], thickness: float | None = None
) -> CoarseScan:
    """Finds the acquisition of a scan by its spacing.

    The fine grid has the scan's centre and covers its field of view. Axes whose voxels are about
    as large as wanted keep them.

    Args:
        scan: in its own grid.
        spacing: of the fine grid, in mm along R, A and S.
        thickness: of the slices in mm, along the axis with the largest voxels; as their distance
            unless given. A NIfTI header does not tell it.
    """
    canonical = scan.canonical()
    data, axes = np.ascontiguousarray(canonical.data, dtype=np.float32), []
    to_scan = np.eye(4)  # indices of the fine grid to those of the scan
    thickest = int(np.argmax(canonical.spacing))
    for axis, (mm, fine) in enumerate(zip(canonical.spacing, spacing, strict=True)):
        distance, slices = mm / fine, None
        if distance > _ALIKE:
            width = thickness / fine if thickness and axis == thickest else distance
            slices = Slices.covering(data.shape[axis], distance, width)
            to_scan[axis, axis], to_scan[axis, 3] = 1 / distance, -slices.first / distance
        elif distance < 1 / _ALIKE:
            at = _positions(data.shape[axis], distance)
            to_scan[axis, axis], to_scan[axis, 3] = 1 / distance, at[0]
            weights = _coarsening(data.shape[axis], at, distance)
            data = _along(data, [weights if one == axis else None for one in range(3)])
        axes.append(slices)
    x, y, z = axes
    return CoarseScan(data, Acquisition((x, y, z)), canonical.affine @ to_scan)


def _first(size: int, count: int, distance: float) -> float:
    """Where the first of samples about the centre of a grid lies."""
    return (size - 1) / 2 - distance * (count - 1) / 2


def _along(
    data: Float[np.ndarray, "*C X Y Z"], matrices: Sequence[np.ndarray | None]
) -> Float[np.ndarray, "*C I J K"]:
    """One matrix for each of the last three axes; None leaves an axis as it is."""
    for axis, matrix in zip((-3, -2, -1), matrices, strict=True):
        if matrix is not None:
            product = np.tensordot(matrix.astype(data.dtype), data, (1, axis))
            data = np.moveaxis(product, 0, axis)
    return np.ascontiguousarray(data)


def _windowed_sinc(at: Float[np.ndarray, " M"], count: int) -> Float[np.ndarray, "M N"]:
    """Weights of samples at positions between them; those beyond the ends are the outermost.

    Reference: Duchon 1979, Lanczos filtering in one and two dimensions.
    """
    samples = np.arange(-_LOBES, count + _LOBES)
    apart = at[:, None] - samples
    all_weights = np.sinc(apart) * np.sinc(apart / _LOBES) * (np.abs(apart) < _LOBES)
    weights = np.zeros((len(at), count))
    for sample, column in zip(samples.clip(0, count - 1), all_weights.T, strict=True):
        weights[:, sample] += column
    return weights / weights.sum(axis=1, keepdims=True)


def _positions(count: int, distance: float) -> Float[np.ndarray, " K"]:
    """Of the voxels of a coarser grid about the same centre, in those of the finer one."""
    fewer = max(1, math.floor(count * distance + _ROUNDING * count))
    return (count - 1) / 2 + (np.arange(fewer) - (fewer - 1) / 2) / distance


def _coarsening(
    count: int, at: Float[np.ndarray, " K"], distance: float
) -> Float[np.ndarray, "K N"]:
    """Linear interpolation after the blur of `grid.Grid`, against aliasing."""
    blur = ndimage.gaussian_filter1d(np.eye(count), (1 / distance - 1) / 2, axis=0, mode="nearest")
    columns = [ndimage.map_coordinates(one, [at], order=1, mode="nearest") for one in blur.T]
    return np.stack(columns, axis=1)
