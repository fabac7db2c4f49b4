"""Intensities of an aligned MRI on the scale of a template: by landmarks, then low frequencies.

Percentiles of the whole scan move with a bright lesion, a coil or the edge of a mask. Here deciles
of the tissue that lies inside the template become those of the template. Then what is left of the
bias field is taken off: the difference from the template at low spatial frequencies, clipped so
that a lesion hardly counts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage

from medgan.core.intensity import IntensityScale
from medgan.core.template import PERCENTILES

Healthy = tuple[Float[np.ndarray, "X Y Z"], Float[np.ndarray, "X Y Z"]]

_SIGMA_MM = 20.0
"""Standard deviation of the Gaussian that separates a bias field from anatomy and lesions."""
_CLIP = 2.0
"""Healthy standard deviations at which a difference is clipped before it is smoothed."""
_STEP = 1e-6
"""Smallest distance of two landmarks, as a share of the range: a scale must rise."""


def landmarks(
    data: Float[np.ndarray, "X Y Z"], inside: Bool[np.ndarray, "X Y Z"]
) -> Float[np.ndarray, " L"] | None:
    """Intensities at `PERCENTILES` of an aligned scan; None without tissue.

    Args:
        data: on the template's grid, NaN outside the field of view.
        inside: where the anatomy lies.
    """
    tissue = data[inside & np.isfinite(data)]
    tissue = tissue[tissue > _background(data, inside)]
    return np.percentile(tissue, PERCENTILES) if tissue.size else None


def landmark_scale(
    data: Float[np.ndarray, "X Y Z"],
    inside: Bool[np.ndarray, "X Y Z"],
    wanted: Float[np.ndarray, " L"],
) -> IntensityScale | None:
    """The scale on which landmarks of an aligned scan are those of the template.

    Args:
        data: intensities on the template's grid, NaN outside the field of view.
        inside: where the anatomy lies.
        wanted: landmarks of the template.

    Returns:
        Rising from -1 at the background to 1; None for a scan without contrast.
    """
    found = landmarks(data, inside)
    if found is None or found[0] == found[-1]:
        return None
    low, step = _background(data, inside), _STEP * (found[-1] - found[0])
    slope = (found[-1] - found[-2]) / max(float(wanted[-1] - wanted[-2]), _STEP)
    top = found[-1] + max(slope, step) * max(1 - float(wanted[-1]), _STEP)
    knots = np.array([low, *found, top])
    knots = np.maximum.accumulate(knots) + step * np.arange(len(knots))
    values = np.maximum.accumulate([-1.0, *wanted.clip(-1 + _STEP, 1 - _STEP), 1.0])
    return IntensityScale(tuple(knots.tolist()), tuple(values.tolist()))


def scaled(data: Float[np.ndarray, "X Y Z"], scale: IntensityScale) -> Float[np.ndarray, "X Y Z"]:
    """An aligned scan in [-1, 1]; beyond its field of view, where it is NaN, background."""
    return scale(torch.from_numpy(np.nan_to_num(data, nan=scale.intensities[0]))).numpy()


def without_shading(
    volume: Float[np.ndarray, "X Y Z"],
    healthy: Healthy,
    inside: Bool[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
) -> tuple[Float[np.ndarray, "X Y Z"], Float[np.ndarray, "X Y Z"]]:
    """A scan in [-1, 1] without its `low_frequencies`, and these; arguments likewise."""
    shading = low_frequencies(volume, healthy, inside, spacing)
    return (volume - shading).clip(-1, 1), shading


def low_frequencies(
    volume: Float[np.ndarray, "X Y Z"],
    healthy: Healthy,
    inside: Bool[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
) -> Float[np.ndarray, "X Y Z"]:
    """The smooth part of the difference of a scan from a template, 0 outside its anatomy.

    Args:
        volume: aligned, in [-1, 1]; -1 is background.
        healthy: mean and floored standard deviation of healthy scans at each voxel.
        inside: where the anatomy lies.
        spacing: of the grid in mm.
    """
    tissue = (inside & (volume > -1)).astype(np.float32)
    mean, spread = healthy
    difference = (volume - mean).clip(-_CLIP * spread, _CLIP * spread) * tissue
    sigma = [_SIGMA_MM / s for s in spacing]
    weight = ndimage.gaussian_filter(tissue, sigma, mode="constant", truncate=3)
    smooth = ndimage.gaussian_filter(difference, sigma, mode="constant", truncate=3)
    return np.asarray(smooth / np.maximum(weight, 1e-3) * tissue, np.float32)


def _background(data: np.ndarray, inside: np.ndarray) -> float:
    """The value of voxels outside the anatomy; the lowest where there are none."""
    outside = data[~inside & np.isfinite(data)]
    return float(np.median(outside) if outside.size else np.nanmin(data))
