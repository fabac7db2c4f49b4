"""The geometry of a series: the order of its slices and the affine."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medgan.core.errors import DataError
from medgan.data.dicom.frames import Frame
from medgan.data.dicom.series import Series

MAX_SKEW = 5e-3
"""Tolerance of direction cosines for unit length and right angles; headers round them."""
MAX_UNEVEN = 0.1
"""Largest distance of a slice from its even position, as a share of the slice spacing."""
MAX_DRIFT = 0.5
"""Largest sideways shift of a slice or of the whole stack, in pixels."""
FEWEST = 3
"""Slices of a scan: with two, there is no second distance to compare with."""
SAME_POSITION = 0.05
"""Slices closer than this share of the typical distance have the same position."""
MAX_TILT = 0.1
"""Largest gantry tilt in degrees that a header may state while positions show none."""
MAX_MM = 1e5
"""Largest coordinate and pixel size in mm; larger ones are errors, and sums of them overflow."""
TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""DICOM's axes are Left, Posterior, Superior."""


@dataclass(frozen=True)
class SliceStack:
    """A stack of slices.

    Attributes:
        frames: in order, along the normal of the slices.
        affine: shape (4, 4): column, row and slice number to world mm (RAS+).
        notes: what was corrected.
    """

    frames: tuple[Frame, ...]
    affine: np.ndarray
    notes: tuple[str, ...] = ()


def stack_slices(series: Series, case: str) -> SliceStack:
    """Sorts the slices of a series and fits the affine.

    Raises:
        DataError: E_POSITION, E_ORIENTATION, E_SPACING, E_MATRIX, E_DIMENSIONS, E_TIME_SERIES,
            E_SLICE_DUPLICATE, E_SLICE_GAP, E_SLICE_SPACING, E_TILT.

    Reference: DICOM PS3.3 C.7.6.2.1.1 (Image Plane Module).
    """
    axes = _axes(series, case)
    row_mm, column_mm = _pixel_spacing(series, case)
    missing = sum(frame.position is None for frame in series.frames)
    if missing:
        raise DataError(
            "E_POSITION", case, f"{missing} of {len(series.frames)} slices have no position",
            "export the original series",
        )  # fmt: skip
    if len(series.frames) < FEWEST:
        raise DataError(
            "E_DIMENSIONS", case, f"{len(series.frames)} slices, not one 3D volume",
            "export the whole series",
        )  # fmt: skip
    positions = np.array([frame.position for frame in series.frames], dtype=float)
    if np.abs(positions).max() > MAX_MM or max(row_mm, column_mm) > MAX_MM:
        raise DataError(
            "E_POSITION", case, "positions or pixel sizes are impossible", "export it again"
        )
    heights = positions @ axes[2]
    order = np.argsort(heights, kind="stable")
    frames = tuple(series.frames[n] for n in order)
    heights, positions = heights[order], positions[order]
    step, uneven = _check_steps(heights, case)
    _check_nominal(frames, step, case)
    _check_upright(frames, positions, axes, min(row_mm, column_mm), case)
    affine = np.eye(4)
    affine[:3, 0] = axes[0] * column_mm
    affine[:3, 1] = axes[1] * row_mm
    affine[:3, 2] = axes[2] * step
    affine[:3, 3] = positions[0]
    affine[:3] = TO_RAS @ affine[:3]
    notes = (f"slice positions corrected by up to {uneven:.2g} mm",) if uneven > 2e-3 * step else ()
    return SliceStack(frames, affine, notes)


def _axes(series: Series, case: str) -> Float[np.ndarray, "3 3"]:
    """Unit vectors along a row, down a column and through the slices, LPS.

    The mean over slices, made exactly orthonormal.
    """
    known = [frame.cosines for frame in series.frames if frame.cosines is not None]
    if len(known) < len(series.frames):
        raise DataError(
            "E_ORIENTATION", case, "a slice has no orientation", "export the original series"
        )
    along, down = np.array(known).mean(axis=0).reshape(2, 3)
    lengths = np.array([np.linalg.norm(along), np.linalg.norm(down)])
    if np.abs(lengths - 1).max() > MAX_SKEW or abs(along @ down) > MAX_SKEW:
        raise DataError(
            "E_ORIENTATION", case, "rows and columns are not at right angles",
            "export the original series",
        )  # fmt: skip
    along, down = along / lengths[0], down / lengths[1]
    normal = np.cross(along, down)
    normal /= np.linalg.norm(normal)
    # Both share the rounding error.
    middle = (along + down) / np.linalg.norm(along + down)
    across = np.cross(normal, middle)
    return np.array([(middle - across) / np.sqrt(2), (middle + across) / np.sqrt(2), normal])


def _pixel_spacing(series: Series, case: str) -> tuple[float, float]:
    known = [frame.pixel_spacing for frame in series.frames]
    if any(pair is None or min(pair) <= 0 for pair in known):
        raise DataError(
            "E_SPACING", case, "a slice has no valid pixel spacing", "export the original series"
        )
    pairs = np.array(known, dtype=float)
    if np.ptp(pairs, axis=0).max() > 1e-3 * pairs.min():
        raise DataError(
            "E_MATRIX", case, "slices have pixels of different sizes",
            "export the series again, in parts",
        )  # fmt: skip
    return float(pairs[0, 0]), float(pairs[0, 1])


def _check_steps(heights: np.ndarray, case: str) -> tuple[float, float]:
    """The distance of neighbouring slices and the largest deviation from an even stack, mm."""
    gaps = np.diff(heights)
    apart = gaps[gaps > 1e-3]
    typical = float(np.median(apart)) if len(apart) else np.inf
    starts = np.concatenate([[True], gaps > SAME_POSITION * typical])
    if not starts.all():
        counts = Counter(np.unique(np.cumsum(starts), return_counts=True)[1].tolist())
        usual = counts.most_common(1)[0][0]
        if usual > 1:
            raise DataError(
                "E_TIME_SERIES", case,
                f"{usual} images at each position: time points, echoes, directions or phases",
                "export one of them as a series of its own",
            )  # fmt: skip
        raise DataError(
            "E_SLICE_DUPLICATE", case, f"slices at the position of another: {(~starts).sum()}",
            "leave out those that do not belong to the scan",
        )  # fmt: skip
    step = float((heights[-1] - heights[0]) / len(gaps))
    uneven = float(np.abs(heights - heights[0] - step * np.arange(len(heights))).max())
    if uneven <= MAX_UNEVEN * step:
        return step, uneven
    times = gaps / gaps.min()
    if np.abs(times - np.round(times)).max() <= 2 * MAX_UNEVEN:
        missing = int((np.round(times) - 1).sum())
        raise DataError("E_SLICE_GAP", case, f"slices missing: {missing}", "export it again")
    raise DataError(
        "E_SLICE_SPACING", case,
        f"slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart",
        "export the series reconstructed at one distance",
    )  # fmt: skip


def _check_nominal(frames: tuple[Frame, ...], step: float, case: str) -> None:
    """Compares with the nominal distance: without every second slice, a stack is still even.

    Some scanners write the gap between slices there instead: less than the thickness.
    """
    nominal = frames[0].apart
    if nominal and nominal >= 0.99 * frames[0].thickness > 0 and step > 1.5 * nominal:
        raise DataError(
            "E_SLICE_GAP", case,
            f"slices are {step:.3g} mm apart, the header says {nominal:.3g}",
            "export it again",
        )  # fmt: skip


def _check_upright(
    frames: tuple[Frame, ...], positions: np.ndarray, axes: np.ndarray, pixel_mm: float, case: str
) -> None:
    """Whether slices are aligned along their normal."""
    remedy = "export it corrected for tilt, or resample it"
    sideways = (positions - positions[0]) @ axes[:2].T
    lean = sideways[-1] / (len(frames) - 1)
    if np.linalg.norm(sideways[-1]) > MAX_DRIFT * pixel_mm:
        height = (positions[-1] - positions[0]) @ axes[2]
        angle = np.degrees(np.arctan2(np.linalg.norm(sideways[-1]), height))
        raise DataError("E_TILT", case, f"the stack is sheared by {angle:.1f} degrees", remedy)
    wobble = np.linalg.norm(sideways - np.arange(len(frames))[:, None] * lean, axis=1).max()
    if wobble > MAX_DRIFT * pixel_mm:
        raise DataError(
            "E_SLICE_SPACING", case, f"slices are shifted sideways by up to {wobble:.3g} mm",
            "export the series in parts",
        )  # fmt: skip
    # Some scanners state a tilt that positions and directions do not show.
    tilt = max(abs(frame.tilt) for frame in frames)
    if tilt > MAX_TILT and abs(axes[2][2]) > np.cos(np.radians(MAX_TILT)):
        raise DataError("E_TILT", case, f"the gantry was tilted by {tilt:.1f} degrees", remedy)
