"""MONAI chains from a file to the model's grid and back."""

import copy
import logging
import warnings
from collections.abc import Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medgan.core.config import Preprocessing
from medgan.core.intensity import IntensityScale
from medgan.core.volume import Volume

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.io.dictionary import LoadImaged

log = logging.getLogger(__name__)
IMAGE, LABEL = "image", "label"
MRI_UNITS = 1000
"""Synthetic MRI is written from 0 to this, as MRI has no unit of its own."""
_COLDEST_MRI = -500.0
"""Below it, a scan is likely to be CT: air is -1000 HU."""
_BACKGROUND = 0.05
"""Share of the 99.5th percentile below which a voxel counts as background (mri)."""


def quiet_monai() -> None:
    """Keeps start-up messages of MONAI's optional readers off the terminal."""
    logging.getLogger("monai").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"monai\..*")


def loader(keys: tuple[str, ...]) -> "LoadImaged":
    """Paths to tensors (1, X, Y, Z) with affines, axes as stored."""
    from monai.transforms.io.dictionary import LoadImaged

    return LoadImaged(keys, reader="NibabelReader", image_only=True, ensure_channel_first=True)


def geometry_chain(preprocessing: Preprocessing, keys: tuple[str, ...]) -> Any:  # noqa: ANN401 - a Compose, whose types say less than it does
    """Loaded scan to the model's grid: RAS+, resample, crop or pad about the centre.

    Origin and rotation are dropped after RAS+, so that what a network sees depends on the
    voxels and their spacing alone: the same scan stored in any axis order gives the same
    numbers to the last bit. `Preparation.back` leads back.

    Args:
        preprocessing: the model's.
        keys: `image`, or `image` and `label`.
    """
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.dictionary import ResizeWithPadOrCropd
    from monai.transforms.spatial.dictionary import Orientationd, Spacingd

    modes = ["bilinear" if key == IMAGE else "nearest" for key in keys]
    return Compose(
        [
            Orientationd(keys, axcodes="RAS", labels=None),
            VoxelFramed(keys),
            AntiAliasd(IMAGE, preprocessing.spacing),
            Spacingd(keys, pixdim=preprocessing.spacing, mode=modes, padding_mode="border"),
            Intensityd(IMAGE, preprocessing),
            ResizeWithPadOrCropd(IMAGE, preprocessing.shape, value=-1.0),
            *([ResizeWithPadOrCropd(LABEL, preprocessing.shape)] if LABEL in keys else []),
        ]
    )


class VoxelFramed:
    """Replaces an affine by the bare spacing; MONAI's dictionary-transform interface."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same items; metadata of their tensors changed."""
        result = dict(data)
        for key in self.keys:
            tensor: MetaTensor = result[key].contiguous()
            spacing = np.linalg.norm(np.asarray(tensor.affine)[:3, :3], axis=0).round(5)
            tensor.affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
            result[key] = tensor
        return result


class AntiAliasd:
    """Gaussian blur along axes that will be coarsened, as resampling alone would alias noise."""

    def __init__(self, key: str, spacing: tuple[float, float, float]) -> None:
        self.key, self.spacing = key, spacing

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The image blurred with sigma (factor - 1) / 2 voxels, as scikit-image does."""
        from monai.transforms.intensity.array import GaussianSmooth

        tensor: MetaTensor = data[self.key]
        factors = np.asarray(self.spacing) / np.diag(np.asarray(tensor.affine))[:3]
        sigma = np.maximum(0, (factors - 1) / 2)
        if not sigma.any():
            return dict(data)
        return {**data, self.key: GaussianSmooth(sigma=tuple(sigma.clip(1e-6)))(tensor)}


class Intensityd:
    """Intensities into [-1, 1] by the model's policy."""

    def __init__(self, key: str, preprocessing: Preprocessing) -> None:
        self.key, self.preprocessing = key, preprocessing

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The image rescaled and clipped."""
        tensor: MetaTensor = data[self.key]
        scale = intensity_scale(np.asarray(tensor), self.preprocessing)
        scaled: Any = scale(tensor)
        scaled.meta["scale"] = scale
        return {**data, self.key: scaled}


def synthetic_scale(preprocessing: Preprocessing) -> IntensityScale:
    """The scale of synthetic scans: HU for CT, 0 to `MRI_UNITS` for MRI, which has no unit."""
    if preprocessing.intensity == "ct":
        return IntensityScale.of_windows(preprocessing.window)
    return IntensityScale((0.0, float(MRI_UNITS)))


def intensity_scale(data: np.ndarray, preprocessing: Preprocessing) -> IntensityScale:
    """The scale from a scan's intensities to [-1, 1].

    CT has a scale of its own, so windows in HU do. MRI has none: percentiles of the
    foreground, which is all that is brighter than 5% of the scan's 99.5th percentile above
    its minimum.

    Args:
        data: voxels of the whole scan, any shape.
        preprocessing: the model's policy.
    """
    if preprocessing.intensity == "ct":
        return synthetic_scale(preprocessing)
    floor = data.min()
    if floor < _COLDEST_MRI:
        _say_that_it_looks_like_ct()
    foreground = data[data - floor > _BACKGROUND * (np.percentile(data, 99.5) - floor)]
    if foreground.size == 0:
        foreground = data
    low, high = np.percentile(foreground, preprocessing.percentiles)
    high = high if high > low else low + 1e-6 * (abs(low) or 1.0)
    return IntensityScale((float(low), float(high)))


@cache
def _say_that_it_looks_like_ct() -> None:
    """Once is enough: all scans of a set are of one kind."""
    log.warning(
        "values far below zero, as CT has them, are scaled as MRI: for CT set data.intensity=ct"
    )


class Preparation:
    """One scan from file or memory to the model's grid, and maps of it back into its own.

    Args:
        preprocessing: the model's.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        quiet_monai()
        self._load = loader((IMAGE,))
        self._chain = geometry_chain(preprocessing, (IMAGE,))

    def __call__(self, scan: Path | Volume) -> "MetaTensor":
        """The scan on the model's grid, (1, X, Y, Z) in [-1, 1]; it remembers the way it came."""
        from monai.data.meta_tensor import MetaTensor

        if isinstance(scan, Path):
            return self._chain(self._load({IMAGE: str(scan)}))[IMAGE]
        data = torch.as_tensor(np.ascontiguousarray(scan.data, dtype=np.float32))[None]
        return self._chain({IMAGE: MetaTensor(data, affine=torch.as_tensor(scan.affine))})[IMAGE]

    def back(self, data: np.ndarray, prepared: "MetaTensor", outside: float = 0.0) -> np.ndarray:
        """Carries a map from the model's grid into the grid of the scan it was made for.

        Args:
            data: shape (X, Y, Z) of the model's grid.
            prepared: what the call returned for the scan.
            outside: value beyond the model's field of view.

        Returns:
            float32 in the axes and shape of the scan.
        """
        from monai.data.meta_tensor import MetaTensor

        # Undoing a crop pads with 0: shift so that this means `outside`.
        values = torch.as_tensor(data, dtype=torch.float32)[None] - outside
        value = MetaTensor(values, meta=prepared.meta)
        # MONAI takes records apart while it undoes them, so each map gets its own.
        value.applied_operations = copy.deepcopy(prepared.applied_operations)
        value = self._chain.inverse({IMAGE: value})[IMAGE]
        return np.ascontiguousarray(np.asarray(value)[0] + outside, dtype=np.float32)
