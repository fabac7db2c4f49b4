"""How much of fine anatomy a restored scan has: edges, lesions, and what is not there."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Image = Float[np.ndarray, "X Y Z"]
Region = Bool[np.ndarray, "X Y Z"]
_EDGES = 0.1
"""Share of the voxels of a region, those with the steepest change, that are edges."""
_LESION = 0.2
"""Change of intensity in [-1, 1], half that of a faint planted lesion, that looks like one once it
is smoothed over a voxel."""
_SMALLEST = 27
"""Voxels of a change that looks like a lesion."""


def edge_sharpness(image: Image, truth: Image, axis: int, region: Region) -> float:
    """How steep edges are along an axis, in the steepness that they have in truth.

    The slope of the image's differences over those of the truth, by least squares, where the latter
    are largest. 1 is as sharp, less is blurred; noise of the image does not make it larger.

    Args:
        image: restored.
        truth: the fine scan.
        axis: along which slices were thick.
        region: voxels that count; not empty.
    """
    found, true = (np.diff(one.astype(float), axis=axis) for one in (image, truth))
    first, last = (np.moveaxis(region, axis, 0)[part] for part in (slice(-1), slice(1, None)))
    inside = np.moveaxis(first & last, 0, axis)
    steep = inside & (np.abs(true) >= np.quantile(np.abs(true[inside]), 1 - _EDGES))
    return float((found[steep] * true[steep]).sum() / np.square(true[steep]).sum())


def contrast_kept(healthy: Image, lesioned: Image, change: Image, lesion: Region) -> float:
    """Share of a lesion's contrast that a restored scan has; 1 is all of it.

    Args:
        healthy: restored from the scan without the lesion.
        lesioned: restored from the same scan with it.
        change: what the lesion changed in the fine scan.
        lesion: its voxels; not empty.
    """
    sign = np.sign(change[lesion].sum())
    return float(sign * (lesioned - healthy)[lesion].sum() / np.abs(change[lesion].sum()))


def invented(image: Image, truth: Image, region: Region) -> int:
    """Number of changes in a restored scan that look like lesions, and that are not there.

    Connected voxels at which it differs from the fine scan, both smoothed over a voxel, by half of
    what a faint lesion changes, as many as a cube of three voxels an axis has or more.

    Args:
        image: restored, in [-1, 1].
        truth: the fine scan.
        region: voxels that count.
    """
    apart = ndimage.gaussian_filter(image.astype(float) - truth, 1.0)
    count = 0
    for sign in (-1, 1):
        parts, number = ndimage.label(region & (sign * apart > _LESION))  # pyright: ignore
        sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
        count += int((sizes >= _SMALLEST).sum())
    return count
