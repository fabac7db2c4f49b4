"""Scales from intensities to [-1, 1]: of scans that are not aligned, and of synthetic ones."""

import logging
from functools import cache

import numpy as np
import torch

from medgan.core.config import Preprocessing
from medgan.core.intensity import IntensityScale
from medgan.core.volume import Volume
from medgan.data.manifest import IMAGE

log = logging.getLogger(__name__)
MRI_UNITS = 1000
"""Synthetic MRI is written from 0 to this, as MRI has no unit of its own."""
_COLDEST_MRI = -500.0
"""Below it, a scan is likely to be CT: air is -1000 HU."""
_BACKGROUND = 0.05
"""Share of the 99.5th percentile below which a voxel counts as background (mri)."""


PET = IntensityScale(
    tuple(root**2 / 4 for root in range(11)), tuple(root / 5 - 1 for root in range(11))
)
"""The square root of SUV from 0 to 25: most tissue has less than 1, tumours up to 20."""


def synthetic_scale(preprocessing: Preprocessing, channel: str = IMAGE) -> IntensityScale:
    """The scale of a synthetic channel: HU for CT, SUV for PET, 0 to `MRI_UNITS` for MRI."""
    if channel in preprocessing.ranges:
        return IntensityScale(preprocessing.ranges[channel])
    kind = preprocessing.intensity_of(channel)
    if kind == "ct":
        return IntensityScale.of_windows(preprocessing.window)
    if kind == "pet":
        return PET
    return IntensityScale((0.0, float(MRI_UNITS)))


def intensity_scale(
    data: np.ndarray, preprocessing: Preprocessing, channel: str = IMAGE
) -> IntensityScale:
    """The scale from a channel's intensities to [-1, 1].

    CT and PET have units, so windows in HU and in SUV do. MRI has none: percentiles of the
    foreground, which is all that is brighter than 5% of the scan's 99.5th percentile above
    its minimum.

    Args:
        data: voxels of the whole channel, any shape.
        preprocessing: the model's policy.
        channel: its name.
    """
    if preprocessing.intensity_of(channel) != "mri" or channel in preprocessing.ranges:
        return synthetic_scale(preprocessing, channel)
    floor = data.min()
    if floor < _COLDEST_MRI:
        _say_that_it_looks_like_ct()
    foreground = data[data - floor > _BACKGROUND * (np.percentile(data, 99.5) - floor)]
    if foreground.size == 0:
        foreground = data
    low, high = np.percentile(foreground, preprocessing.percentiles)
    high = high if high > low else low + 1e-6 * (abs(low) or 1.0)
    return IntensityScale((float(low), float(high)))


def registered(scan: Volume, preprocessing: Preprocessing) -> Volume:
    """The first channel as it is aligned: CT within its windows, MRI as it is.

    In HU, air and metal decide a correlation: a scan that lies well would agree hardly better than
    one that does not.
    """
    name = preprocessing.channels[0]
    if preprocessing.intensity_of(name) == "mri":
        return scan
    data = torch.from_numpy(np.asarray(scan.data, np.float32))
    return scan.like(synthetic_scale(preprocessing, name)(data).numpy())


@cache
def _say_that_it_looks_like_ct() -> None:
    """Once is enough: all scans of a set are of one kind."""
    log.warning(
        "values far below zero, as CT has them, are scaled as MRI: for CT set data.intensity=ct"
    )
