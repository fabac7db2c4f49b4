"""How noisy a scan is."""

import numpy as np
from jaxtyping import Shaped

_EDGE = 128
"""Voxels along each axis, around the middle, that are looked at."""
_TISSUE = 0.1
"""Share of the range of intensities above which a block holds tissue; noise in air is another."""
_NORMAL = 0.6745
"""Median of the absolute value of a standard normal number."""


def noise_level(scan: Shaped[np.ndarray, "X Y Z"]) -> float:
    """Standard deviation of a scan's noise, as a share of its range of intensities.

    From blocks of 2 x 2 x 2 voxels that hold tissue: the median of what differs along all three
    axes at once, which anatomy hardly does. The range goes from percentile 0.5 to 99.5.

    Args:
        scan: in any intensities, on its own grid.

    Returns:
        From 0; 0 where there is no tissue.

    Reference: Donoho and Johnstone 1994, Ideal spatial adaptation by wavelet shrinkage,
        Biometrika 81(3), section 4 (the median of the finest wavelet coefficients).
    """
    middle = tuple(slice(max(0, (n - _EDGE) // 2), (n + _EDGE) // 2) for n in scan.shape)
    part = np.asarray(scan[middle], np.float32)
    low, high = np.percentile(part, (0.5, 99.5)).tolist()
    x, y, z = (n // 2 for n in part.shape)
    blocks = part[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2)
    tissue = blocks.min(axis=(1, 3, 5)) > low + _TISSUE * (high - low)
    if high <= low or not tissue.any():
        return 0.0
    detail = np.diff(np.diff(np.diff(blocks, axis=1), axis=3), axis=5)[:, 0, :, 0, :, 0]
    return float(np.median(np.abs(detail[tissue])) / np.sqrt(8) / _NORMAL / (high - low))
