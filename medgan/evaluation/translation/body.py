"""Where in a scan the body is."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

AIR_HU = -300.0
"""Of CT: above it lies tissue, below it air, foam and most of a couch."""
_BACKGROUND = 0.1
"""Share of the 99.5th percentile below which a voxel of another image is background."""
_SMALLEST_PART = 0.1
"""A part of this share of the largest is body, as a second leg is; a couch is less."""


def body_mask(data: Float[np.ndarray, "X Y Z"], ct: bool) -> Bool[np.ndarray, "X Y Z"]:
    """The body: tissue without thin and small parts, gaps closed, holes filled in each plane.

    Tissue is above -300 HU in CT, and above 10% of the 99.5th percentile elsewhere. Lungs and bowel
    are filled, even where the edge of the field of view cuts them.

    Args:
        data: intensities in HU (`ct`) or from 0; NaN where nothing was seen, which is no body.
        ct: whether the image is CT.
    """
    seen = np.isfinite(data)
    above = AIR_HU if ct else _BACKGROUND * np.percentile(data[seen], 99.5)
    tissue = seen & (np.nan_to_num(data, nan=-np.inf) > above)
    parts, count = ndimage.label(ndimage.binary_opening(tissue))  # pyright: ignore
    if not count:
        return tissue
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = np.isin(parts, np.flatnonzero(sizes >= _SMALLEST_PART * sizes.max()))
    # What the opening took from the edge of a part that is kept.
    kept = tissue & np.asarray(ndimage.binary_dilation(kept), bool)
    return filled(closed(kept)) & seen


def closed(mask: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """The mask with gaps of up to two voxels closed, the edge of the array no gap."""
    padded = np.pad(mask, 2, mode="edge")
    return ndimage.binary_closing(padded, iterations=2)[2:-2, 2:-2, 2:-2]


def filled(mask: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """The mask with holes filled, which need be closed in one plane alone."""
    found = mask
    for axis in range(3):
        planes = [
            np.asarray(ndimage.binary_fill_holes(plane)) for plane in np.moveaxis(mask, axis, 0)
        ]
        found = found | np.moveaxis(np.stack(planes), 0, axis)
    return found
