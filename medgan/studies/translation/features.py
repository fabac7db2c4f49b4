"""Local features of voxels, as a regression of one image on others sees them."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from medgan.studies.translation.scans import PairedScan

SIGMAS = (1.0, 2.0, 4.0)
"""Of Gaussian means, in voxels."""
Features = Callable[[PairedScan], np.ndarray]
"""Of every voxel of a scan: shape (X, Y, Z, F), float32."""


def position(scan: PairedScan) -> np.ndarray:
    """Where in the body a voxel lies: relative to the body's extent, and mm below its surface.

    Four features: 0 to 1 from the left, back and lower end of the source's body, and the distance
    to its surface, which is negative outside.
    """
    grid = np.indices(scan.source_body.shape, dtype=np.float32)
    found = []
    for axis in range(3):
        along = np.flatnonzero(scan.source_body.any(axis=tuple({0, 1, 2} - {axis})))
        low, high = (along[0], along[-1]) if len(along) else (0, scan.source_body.shape[axis] - 1)
        found.append((grid[axis] - low) / max(high - low, 1))
    found.append(depth_mm(scan.source_body, scan.spacing))
    return np.stack(found, axis=-1).astype(np.float32)


def local(scan: PairedScan) -> np.ndarray:
    """Position, and of each source channel what lies at and around a voxel.

    Intensity, Gaussian means at 1, 2 and 4 voxels, size of the gradient at 1 voxel, and standard
    deviation at 1 and 2 voxels. NaN where the channel was not seen; means are over what was.
    """
    found = [position(scan)]
    for image in scan.source.values():
        seen = np.isfinite(image)
        values = np.where(seen, image, 0).astype(np.float32)
        means = {sigma: _mean(values, seen, sigma) for sigma in SIGMAS}
        squares = {sigma: _mean(values**2, seen, sigma) for sigma in SIGMAS[:2]}
        gradient = np.linalg.norm(
            np.stack([np.gradient(means[1.0], axis=a) for a in range(3)]), axis=0
        )
        spread = [np.sqrt(np.maximum(squares[s] - means[s] ** 2, 0)) for s in SIGMAS[:2]]
        both = np.stack([image, *means.values(), gradient, *spread], axis=-1)
        found.append(np.where(seen[..., None], both, np.nan).astype(np.float32))
    return np.concatenate(found, axis=-1)


def depth_mm(body: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Distance to the surface of a body in mm, negative outside; the edge of a scan is no surface.

    Args:
        body: (X, Y, Z).
        spacing: mm.
    """
    if body.all() or not body.any():
        return np.where(body, 1000.0, -1000.0).astype(np.float32)
    inside, outside = (
        np.asarray(ndimage.distance_transform_edt(part, sampling=spacing))
        for part in (body, ~body)
    )  # fmt: skip
    return (inside - outside).astype(np.float32)


def _mean(values: np.ndarray, seen: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over the voxels that were seen."""
    weight = ndimage.gaussian_filter(seen.astype(np.float32), sigma)
    return ndimage.gaussian_filter(values * seen, sigma) / np.maximum(weight, 1e-6)
