"""Lesions of a mask that a thresholded map finds, one by one, and what it finds elsewhere."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

Mask = Bool[np.ndarray, "X Y Z"]
_LIMITS = (0.1, 1.0, 10.0)
"""In ml, between small, medium, large and very large lesions."""
SIZES = (
    f"below {_LIMITS[0]:g} ml",
    *(f"{low:g} to {high:g} ml" for low, high in pairwise(_LIMITS)),
    f"{_LIMITS[-1]:g} ml or more",
)
"""Names of sizes, smallest first."""
_TOUCHING = np.ones((3, 3, 3), bool)


class Found(NamedTuple):
    """What a thresholded map finds.

    Attributes:
        millilitres: volume of each lesion, a connected component of the mask.
        found: whether a voxel of it is above the threshold.
        false_alarms: connected components above the threshold that touch no lesion.
        false_millilitres: their volume.
    """

    millilitres: tuple[float, ...]
    found: tuple[bool, ...]
    false_alarms: int
    false_millilitres: float


def find_lesions(above: Mask, truth: Mask, voxel_mm3: float) -> Found:
    """Compares the components of a mask with those above a threshold.

    Voxels hang together by face, edge or corner. A component that lies next to a lesion touches it.

    Args:
        above: voxels above the threshold.
        truth: all lesions of the scan; none is a healthy scan.
        voxel_mm3: volume of a voxel.
    """
    lesions, count = _parts(truth)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:]
    hit = np.bincount(lesions[above], minlength=count + 1)[1:] > 0
    parts, number = _parts(above)
    near = np.asarray(ndimage.binary_dilation(truth, _TOUCHING), bool)
    false = np.ones(number + 1, bool)
    false[0] = False
    false[parts[near]] = False
    voxels = np.bincount(parts.ravel(), minlength=number + 1)[false].sum()
    return Found(
        tuple((sizes * voxel_mm3 / 1000).tolist()), tuple(hit.tolist()), int(false.sum()),
        float(voxels) * voxel_mm3 / 1000,
    )  # fmt: skip


def size_of(millilitres: float) -> str:
    """The name of a lesion's size.

    Example:
        >>> size_of(0.5)
        '0.1 to 1 ml'
    """
    return SIZES[int(np.searchsorted(_LIMITS, millilitres, side="right"))]


def _parts(mask: Mask) -> tuple[np.ndarray, int]:
    parts, count = ndimage.label(mask, _TOUCHING)  # pyright: ignore[reportGeneralTypeIssues]
    return parts, int(count)
