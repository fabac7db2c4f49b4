"""Alignment: from the voxels of a template to those of a scan, by SimpleITK's registration.

A scan is registered to the template by its correlation with it. Its header gives the start. Where
the result agrees less than scans of the template's own data set do, registration starts again from
the 24 rotations that turn axes into axes: a head may lie on its side, or a header may be wrong.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from medgan.core.volume import Volume
from medgan.data.alignment import Alignment, Shape, grid_affine, sitk_image

if TYPE_CHECKING:
    import SimpleITK as sitk

Kind = Literal["rigid", "affine", "deformable"]
COARSE, FINE = 24, 48
"""Voxels along the longest edge of a template at the two resolutions of registration."""
_SMOOTHING = 0.7
"""Standard deviation of the blur before registration, in voxels of a resolution."""
_WORSE = 4.0
"""Registration starts again from all rotations where one minus the agreement exceeds that of the
template's scans this many times."""
_LEAST_VOXELS = 4
"""Voxels along each axis that a recursive blur needs."""
_FOREGROUND = 0.05
"""Share of the 99.5th percentile above which a voxel counts for the centre of a scan."""


class Aligner:
    """Registers scans to a template.

    Args:
        mean: (X, Y, Z), the template.
        spacing: of its grid in mm.
        kind: rigid finds translation and rotation, the others also the lengths along three axes
            and their angles.
        agreement: of its own scans; registration starts again where it is much worse.
        grid: shape and spacing in mm of the grid on which scans come out, if not the template's.
        voxels: along the longest edge of the template at the two resolutions of registration.
    """

    def __init__(
        self,
        mean: Float[np.ndarray, "X Y Z"],
        spacing: Sequence[float],
        kind: Kind,
        agreement: float,
        grid: tuple[Shape, Sequence[float]] | None = None,
        voxels: tuple[int, int] = (COARSE, FINE),
    ) -> None:
        x, y, z = mean.shape
        self._grid = grid or ((x, y, z), spacing)
        affine = grid_affine(mean.shape, spacing)
        self._kind: Kind = kind
        self._least = 1 - _WORSE * (1 - agreement)
        longest = max(n * s for n, s in zip(mean.shape, spacing, strict=True))
        self._sizes = [longest / count for count in voxels]
        self._levels = [_reduced(mean, affine, size) for size in self._sizes]

    def __call__(self, scan: Volume) -> Alignment:
        """Where the template lies in a scan."""
        affine = _orthogonal(scan.affine)
        data = _without_spikes(np.asarray(scan.data, np.float32))
        levels = [_reduced(data, affine, size) for size in self._sizes]
        centre = _centre(data, affine)
        found = self._best(levels, centre, [np.eye(3)])
        if found is None or found[1] < self._least:
            again = self._best(levels, centre, _rotations())
            found = max(
                (one for one in (found, again) if one), key=lambda one: one[1], default=None
            )
        if found is None:
            found = _shifted(centre), 0.0
        matrix, agreement = found
        return _placed(scan, np.linalg.inv(affine) @ matrix, self._grid, agreement)

    def _best(
        self,
        levels: Sequence["sitk.Image"],
        centre: Float[np.ndarray, "3"],
        rotations: Iterable[Float[np.ndarray, "3 3"]],
    ) -> tuple[Float[np.ndarray, "4 4"], float] | None:
        """The best of several starts at low resolution, refined: mm to mm, and the agreement."""
        starts = []
        for rotation in rotations:
            start = _shifted(centre)
            start[:3, :3] = rotation
            starts.append(_registered(self._levels[0], levels[0], start, "rigid", 60))
        kept = [one for one in starts if one is not None]
        if not kept:
            return None
        matrix, _ = max(kept, key=lambda one: one[1])
        return _registered(self._levels[1], levels[1], matrix, self._kind, 80)


def centred(scan: Volume, shape: Shape, spacing: Sequence[float]) -> Alignment:
    """A grid about the centre of a scan's foreground, in the axes of the world."""
    affine = _orthogonal(scan.affine)
    matrix = np.linalg.inv(affine) @ _shifted(_centre(np.asarray(scan.data), affine))
    return _placed(scan, matrix, (shape, spacing), 0.0)


def _placed(
    scan: Volume, matrix: np.ndarray, grid: tuple[Shape, Sequence[float]], agreement: float
) -> Alignment:
    """The alignment of a grid whose mm `matrix` brings to voxel indices of a scan."""
    return Alignment(matrix @ grid_affine(*grid), agreement, (grid[0], scan.shape))


def reduced(scan: Volume, size: float) -> Volume:
    """Means over blocks of about `size` mm."""
    import SimpleITK as sitk

    image = _reduced(np.asarray(scan.data, np.float32), _orthogonal(scan.affine), size)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Volume(np.ascontiguousarray(sitk.GetArrayFromImage(image).T), affine)


def _registered(
    fixed: "sitk.Image", moving: "sitk.Image", start: np.ndarray, kind: Kind, iterations: int
) -> tuple[Float[np.ndarray, "4 4"], float] | None:
    """Mm of the template to mm of the scan, and the agreement; None where they do not overlap.

    The start is a rotation and a translation.
    """
    import SimpleITK as sitk

    # The start moves the image, not the transform, whose rotation is singular at 180 degrees.
    moving = sitk.Image(moving)
    turn, shift = start[:3, :3].T, start[:3, 3]
    moving.SetDirection((turn @ np.reshape(moving.GetDirection(), (3, 3))).ravel().tolist())
    moving.SetOrigin((turn @ (np.array(moving.GetOrigin()) - shift)).tolist())
    transform = sitk.VersorRigid3DTransform() if kind == "rigid" else sitk.AffineTransform(3)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in another order would give other last bits
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=iterations, relaxationFactor=0.8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:
        return None
    return start @ _matrix(transform), max(0.0, -method.GetMetricValue())


def _rotations() -> list[Float[np.ndarray, "3 3"]]:
    """The 24 rotations that turn axes into axes."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            rotation = np.eye(3)[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(rotation) > 0:
                found.append(rotation)
    return found


def _reduced(data: np.ndarray, affine: np.ndarray, size: float) -> "sitk.Image":
    """Means over blocks of about `size` mm, smoothed, as an image in mm."""
    import SimpleITK as sitk

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    factors = [max(1, math.floor(size / s + 0.25)) for s in spacing]
    factors = [min(f, max(1, n // _LEAST_VOXELS)) for f, n in zip(factors, data.shape, strict=True)]
    image = sitk_image(data)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image = sitk.BinShrink(image, factors)
    x, y, z = image.GetSize()
    missing = [max(0, _LEAST_VOXELS - n) for n in (x, y, z)]
    if any(missing):  # a few slices
        image = sitk.ZeroFluxNeumannPad(image, [0] * 3, missing)
    return sitk.SmoothingRecursiveGaussian(image, [_SMOOTHING * size] * 3)[:x, :y, :z]


def _without_spikes(data: np.ndarray) -> np.ndarray:
    """Clipped far beyond nearly all values: one wrong voxel must not decide a correlation."""
    low, high = np.percentile(data[::2, ::2, ::2], (0.5, 99.5)).tolist()
    least, most = 2 * low - high, 2 * high - low
    usual = high == low or (data.min() >= least and data.max() <= most)
    return data if usual else data.clip(least, most)


def _centre(data: np.ndarray, affine: np.ndarray) -> Float[np.ndarray, "3"]:
    """Mm of the centre of the foreground."""
    some = data[::2, ::2, ::2]
    floor = some.min()
    foreground = some - floor > _FOREGROUND * (np.percentile(some, 99.5) - floor)
    where = (
        2 * np.argwhere(foreground).mean(axis=0) if foreground.any() else np.array(data.shape) / 2
    )
    return affine[:3, :3] @ where + affine[:3, 3]


def _orthogonal(affine: np.ndarray) -> Float[np.ndarray, "4 4"]:
    """The nearest affine whose axes are at right angles, which images in mm need."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    nearest = np.array(affine, np.float64)
    nearest[:3, :3] = _nearest_orthogonal(affine[:3, :3] / spacing) * spacing
    return nearest


def _nearest_orthogonal(matrix: np.ndarray) -> Float[np.ndarray, "3 3"]:
    u, _, v = np.linalg.svd(matrix)
    return u @ v


def _shifted(centre: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, 3] = centre
    return matrix


def _matrix(transform: "sitk.Transform") -> Float[np.ndarray, "4 4"]:
    """(4, 4) of an affine or rigid transform, whichever centre it has."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(axis))) - origin for axis in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.stack(columns, axis=1), origin
    return matrix
