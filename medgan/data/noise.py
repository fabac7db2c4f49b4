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
    part = part[: 2 * x, : 2 * y, : 2 * z]
    corners = [part[i::2, j::2, k::2] for i, j, k in np.ndindex(2, 2, 2)]
    tissue = np.minimum.reduce(corners) > low + _TISSUE * (high - low)
    if high <= low or not tissue.any():
        return 0.0
    values = [corner[tissue] for corner in corners]
    while len(values) > 1:  # what differs along one axis after the other
        half = len(values) // 2
        values = [b - a for a, b in zip(values[:half], values[half:], strict=True)]
    detail = values[0]
    return float(np.median(np.abs(detail)) / np.sqrt(8) / _NORMAL / (high - low))
