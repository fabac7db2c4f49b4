"""A lesion taken out of a scan, so that another can be drawn where it was."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

_SEAM = 0.7
"""Voxels over which mirrored tissue is smoothed, as mirrors meet inside a lesion."""


def without_lesions(
    volume: Float[np.ndarray, "X Y Z"],
    mask: Bool[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
    margin: float,
) -> Float[np.ndarray, "X Y Z"]:
    """The scan with what surrounds its lesions mirrored into them.

    Args:
        volume: a scan.
        mask: its lesions.
        spacing: in mm.
        margin: in mm, around the mask, which is replaced, too.

    Returns:
        Equal to the scan outside of mask and margin; the scan itself where they fill it.
    """
    away = np.asarray(ndimage.distance_transform_edt(~mask, spacing))
    gone = away < margin if mask.any() else mask
    if not gone.any() or gone.all():
        return volume
    nearest = np.asarray(
        ndimage.distance_transform_edt(gone, spacing, return_distances=False, return_indices=True)
    )
    own = np.indices(volume.shape)
    last = np.array(volume.shape)[:, None, None, None] - 1
    mirrored = (2 * nearest - own).clip(0, last)
    usable = ~gone[tuple(mirrored)]
    filled = volume[tuple(np.where(usable, mirrored, nearest))]
    smooth = ndimage.gaussian_filter(np.where(gone, filled, volume), _SEAM)
    return np.where(gone, smooth, volume).astype(volume.dtype)
