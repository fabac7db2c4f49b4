"""Where the brain is in a T1 of a head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.core.errors import DataError
from medgan.core.volume import Volume, bounds
from medgan.data.alignment import resample
from medgan.data.brain.network import brain_network

BRAIN_ML = (400.0, 2500.0)
"""Plausible volumes in ml of what lies in the skull, from a newborn's up."""
_LOCATE, _SEGMENT = 128, 256
"""Edge lengths in voxels of what the two networks see."""
_HEAD = 0.1
"""Share of the 99th percentile above the minimum from which a voxel belongs to the head."""
_MARGIN, _HEAD_MARGIN = 0.1, 0.05
"""Margins on each side of the brain's and the head's box, as shares of its size."""
_RIM = 0.02
"""Share of a plane that must be brain for the plane to belong to the brain's box."""
_TILT = 30
"""Degrees between the poses that are tried. The networks bear 20."""
_CERTAIN = 0.007
"""Doubt up to which a pose is taken at once. It was 0.0055 to 0.0065 up to 20 degrees from the
upright, and 0.007 to 0.015 beyond, on two scans of one head."""


def brain_mask(scan: Volume, case: str) -> Bool[np.ndarray, "X Y Z"]:
    """The brain with its sulci and ventricles, in the scan's own grid.

    A network finds the brain in the box of the head, and a second one outlines it in the box of
    the brain. The largest component counts, its holes filled. Where the first network is in doubt,
    it sees the head tilted to all sides, too, until it is certain. The least doubtful pose counts.

    Args:
        scan: a checked T1 of a head, in any orientation and spacing.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: E_BRAIN when there is no brain, or one of an implausible volume.

    Reference: Fisch et al. 2024, deepbet, doi 10.1016/j.compbiomed.2024.108845.
    """
    data = np.asarray(scan.data, dtype=np.float32)
    head = _head(data, scan.affine)
    found = _locate(data, scan.affine, head, np.eye(3))
    if found.doubt > _CERTAIN:
        for tilt in _tilts():
            pose = _locate(data, scan.affine, head, tilt)
            found = min(found, pose, key=lambda one: one.doubt)
            if found.doubt <= _CERTAIN:
                break
    mask = _segment(data, scan.affine, found)
    ml = float(mask.sum() * np.prod(scan.spacing)) / 1000
    low, high = BRAIN_ML
    if not low <= ml <= high:
        what = f"a brain of {ml:.0f} ml, not {low:.0f} to {high:.0f} ml" if ml else "no brain found"
        raise DataError(
            "E_BRAIN", case, what, "give a T1 of a whole head, or set data.brain to none"
        )
    return mask


def brain_share(scan: Volume, tissue: Bool[np.ndarray, "X Y Z"]) -> float:
    """Share of some tissue of a scan that the first network takes for brain, as the head lies."""
    data = np.asarray(scan.data, dtype=np.float32)
    box, _, probability = _look(data, scan.affine, _head(data, scan.affine), np.eye(3))
    grid = box.affine(_LOCATE)
    seen = _sampled(tissue.astype(np.float32), scan.affine, grid, _LOCATE) > 0
    return float((probability[seen] > 0.5).mean()) if seen.any() else 0.0


@dataclass(frozen=True)
class _Box:
    """A box of any rotation in the world.

    Attributes:
        axes: shape (3, 3), its axes as columns.
        low, high: its corners along them, in mm.
    """

    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def widened(self, share: float) -> "_Box":
        rim = share * (self.high - self.low)
        return replace(self, low=self.low - rim, high=self.high + rim)

    def affine(self, edge: int) -> np.ndarray:
        """Voxel indices to mm of a grid of `edge` voxels along each axis that fills the box."""
        step = (self.high - self.low) / edge
        affine = np.eye(4)
        affine[:3, :3] = self.axes * step
        affine[:3, 3] = self.axes @ (self.low + step / 2)
        return affine


@dataclass(frozen=True)
class _Found:
    """The box of a brain, and how sure the network is.

    Attributes:
        box: with its margin.
        contrast: intensities that the networks see as black and white.
        doubt: mean of min(p, 1 - p) over that of p; infinite without a brain.
    """

    box: _Box
    contrast: tuple[float, float]
    doubt: float


@cache
def _tilts() -> list[np.ndarray]:
    angles = (-_TILT, 0, _TILT)
    turns = [(nod, lean) for nod in angles for lean in angles if nod or lean]
    turns.sort(key=lambda turn: (turn[0] != 0) + (turn[1] != 0))  # about one axis first
    return [Rotation.from_euler("xy", turn, degrees=True).as_matrix() for turn in turns]


def _head(data: np.ndarray, affine: np.ndarray) -> Float[np.ndarray, "N 3"]:
    """Places in mm of a sample of the head's voxels."""
    steps = [max(1, size // 64) for size in data.shape]
    coarse = data[tuple(slice(None, None, step) for step in steps)]
    low = coarse.min()
    bright = coarse > low + _HEAD * (np.percentile(coarse, 99) - low)
    opened = ndimage.binary_opening(bright)
    places = np.argwhere(opened if opened.any() else bright) * steps
    return places @ affine[:3, :3].T + affine[:3, 3]


def _look(
    data: np.ndarray, affine: np.ndarray, head: np.ndarray, axes: np.ndarray
) -> tuple[_Box, tuple[float, float], np.ndarray]:
    """The box of the head, black and white in it, and what the first network says of it."""
    low, high = np.quantile(head @ axes, (0.001, 0.999), axis=0)
    box = _Box(axes, low, high).widened(_HEAD_MARGIN)
    seen = _sampled(data, affine, box.affine(_LOCATE), _LOCATE)
    low, high = np.quantile(seen, (0.005, 0.995)).tolist()
    return box, (low, high), _probability("locate", seen, (low, high))


def _locate(data: np.ndarray, affine: np.ndarray, head: np.ndarray, axes: np.ndarray) -> _Found:
    box, contrast, probability = _look(data, affine, head, axes)
    mask = largest(probability > 0.5)
    if not mask.any():  # the second network may still find it in the box of the head
        return _Found(box, contrast, np.inf)
    doubt = float(np.minimum(probability, 1 - probability).sum() / probability.sum())
    planes = [np.flatnonzero(mask.mean(tuple({0, 1, 2} - {axis})) > _RIM) for axis in range(3)]
    step = (box.high - box.low) / _LOCATE
    low = box.low + step * [p[0] if len(p) else 0 for p in planes]
    high = box.low + step * [p[-1] + 1 if len(p) else _LOCATE for p in planes]
    brain = _Box(axes, low, high).widened(_MARGIN)
    # A box that reached beyond the scan would show the brain smaller than in training.
    ends = _corners(affine, data.shape) @ axes
    low, high = np.maximum(brain.low, ends.min(0)), np.minimum(brain.high, ends.max(0))
    return _Found(_Box(axes, low, high), contrast, doubt)


def _segment(data: np.ndarray, affine: np.ndarray, found: _Found) -> Bool[np.ndarray, "X Y Z"]:
    grid = found.box.affine(_SEGMENT)
    probability = _probability("segment", _sampled(data, affine, grid, _SEGMENT), found.contrast)
    back = np.linalg.inv(grid) @ affine
    inside = _around(np.linalg.inv(back), data.shape)
    back[:3, 3] += back[:3, :3] @ [one.start for one in inside]
    own = resample(probability, back, [one.stop - one.start for one in inside], 0.0)
    mask = np.zeros(data.shape, bool)
    mask[inside] = filled(largest(own > 0.5))
    return mask


def _around(to_own: np.ndarray, shape: Sequence[int]) -> tuple[slice, slice, slice]:
    """The part of the scan's grid that the box of the brain reaches into."""
    places = _corners(to_own, (_SEGMENT,) * 3)
    low = np.clip(np.floor(places.min(0)).astype(int), 0, np.array(shape) - 1)
    high = np.clip(np.ceil(places.max(0)).astype(int) + 1, low + 1, shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _corners(affine: np.ndarray, shape: Sequence[int]) -> Float[np.ndarray, "8 3"]:
    """Outer corners of a grid in mm, or in whatever the affine leads to."""
    ends = np.array([np.multiply(c, shape) - 0.5 for c in np.ndindex(2, 2, 2)])
    return ends @ affine[:3, :3].T + affine[:3, 3]


def _sampled(data: np.ndarray, affine: np.ndarray, grid: np.ndarray, edge: int) -> np.ndarray:
    """The scan on a grid of the world, its minimum outside; nearest voxels, as in training."""
    at, outside = np.linalg.inv(affine) @ grid, float(data.min())
    return resample(data, at, (edge,) * 3, outside, nearest=True)


def _probability(name: str, seen: np.ndarray, contrast: tuple[float, float]) -> np.ndarray:
    low, high = contrast
    seen = (seen - low) / max(high - low, 1e-6 * (abs(high) or 1))
    seen.clip(0, 1, out=seen)
    gain = 0.226 / (seen.std() + 1e-6)
    shift = 0.449 - gain * seen.mean()
    seen *= gain
    seen += shift
    with torch.inference_mode():
        volume = torch.from_numpy(seen.astype(np.float32, copy=False))[None, None]
        return brain_network(name)(volume)[0].numpy()


def largest(mask: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """The largest component of a mask."""
    box = bounds(mask)
    parts, count = ndimage.label(mask[box])  # pyright: ignore[reportGeneralTypeIssues]
    if count < 2:
        return mask
    whole = np.zeros_like(mask)
    whole[box] = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    return whole


def filled(mask: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """A mask without holes: the background that does not reach its box is part of it.

    As `ndimage.binary_fill_holes`, which goes over the whole grid many times.
    """
    box = bounds(mask)
    parts, _ = ndimage.label(~np.pad(mask[box], 1))  # pyright: ignore[reportGeneralTypeIssues]
    whole = np.zeros_like(mask)
    whole[box] = (parts != parts[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return whole
