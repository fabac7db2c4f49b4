"""The model's grid: from the grid of a scan and back, by MONAI's transforms."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError
from medgan.core.volume import Volume

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

MAX_VOXELS = 2**28
"""Voxels that a scan may have once it is resampled to the model's spacing: 1 GiB as float32, of
which resampling takes several times as much."""


class Grid:
    """The model's grid: RAS+, resampled, cropped or padded about the centre; and the way back.

    Origin and rotation are dropped after RAS+, so that what a network sees depends on the
    voxels and their spacing alone: the same scan stored in any axis order gives the same
    numbers to the last bit.

    Args:
        preprocessing: the model's.
        labels: whether label maps are resampled (nearest value) and not images.
    """

    def __init__(self, preprocessing: Preprocessing, labels: bool = False) -> None:
        from monai.transforms.croppad.array import ResizeWithPadOrCrop
        from monai.transforms.spatial.array import Orientation, Spacing

        self._spacing, self._labels = preprocessing.spacing, labels
        self._orient = Orientation(axcodes="RAS", labels=None)
        mode = "nearest" if labels else "bilinear"
        self._resample = Spacing(preprocessing.spacing, mode=mode, padding_mode="border")
        self._crop = None
        if not preprocessing.patches:
            self._crop = ResizeWithPadOrCrop(preprocessing.shape, value=0.0 if labels else -1.0)

    def resample(self, data: Float[np.ndarray, "C X Y Z"], affine: np.ndarray) -> "MetaTensor":
        """Voxels of a scan in RAS+ at the model's spacing, its whole field of view."""
        from monai.data.meta_tensor import MetaTensor

        oriented: Any = self._orient(
            MetaTensor(torch.from_numpy(data), affine=torch.as_tensor(affine, device="cpu"))
        )
        framed = _without_position(oriented)
        return self._resample(framed if self._labels else _anti_aliased(framed, self._spacing))  # pyright: ignore[reportReturnType]

    def crop(self, resampled: "MetaTensor") -> "MetaTensor":
        """The model's field of view, about the centre; all where networks see patches."""
        return resampled if self._crop is None else self._crop(resampled)  # pyright: ignore[reportReturnType]

    def back(
        self, data: Float[np.ndarray, "X Y Z"], cropped: "MetaTensor", outside: float
    ) -> Float[np.ndarray, "I J K"]:
        """A map of the model's grid on the grid that `cropped` came from."""
        from monai.data.meta_tensor import MetaTensor

        # Undoing a crop pads with 0: shift so that this means `outside`.
        values = torch.as_tensor(data, dtype=torch.float32, device="cpu")[None] - outside
        value: Any = MetaTensor(values, meta=cropped.meta)
        # MONAI takes records apart while it undoes them, so each map gets its own.
        value.applied_operations = copy.deepcopy(cropped.applied_operations)
        for transform in filter(None, (self._crop, self._resample, self._orient)):
            value = transform.inverse(value)
        return np.ascontiguousarray(np.asarray(value)[0] + outside, dtype=np.float32)


@dataclass(frozen=True)
class Centred:
    """A scan on the grid about its own centre, and the way back.

    Attributes:
        grid, label_grid: of images and of label maps.
        record: the scan with the record of what was done to it.
        affine: of the scan.
    """

    grid: Grid
    label_grid: Grid
    record: "MetaTensor"
    affine: Float[np.ndarray, "4 4"]

    def back(self, data: Float[np.ndarray, "X Y Z"], outside: float) -> Float[np.ndarray, "I J K"]:
        """A map of the model's grid on the scan's own."""
        return self.grid.back(data, self.record, outside)

    def label_map(self, label: Volume) -> Int[np.ndarray, "X Y Z"]:
        """A label map on the model's grid, by the geometry of the scan."""
        data = np.asarray(label.data, dtype=np.float32)[None]
        values = self.label_grid.crop(self.label_grid.resample(data, self.affine)).as_tensor()[0]
        return values.round().to(torch.int32).contiguous().numpy()


def _without_position(tensor: "MetaTensor") -> "MetaTensor":
    """The same voxels with the bare spacing as affine."""
    tensor = tensor.contiguous()  # pyright: ignore[reportAssignmentType]
    spacing = np.linalg.norm(np.asarray(tensor.affine)[:3, :3], axis=0).round(5)
    tensor.affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64, device="cpu"))
    return tensor


def _anti_aliased(tensor: "MetaTensor", spacing: Sequence[float]) -> "MetaTensor":
    """Blurred along axes that will be coarsened, as resampling alone would alias noise.

    The sigma is (factor - 1) / 2 voxels, as in scikit-image.
    """
    from monai.transforms.intensity.array import GaussianSmooth

    factors = np.asarray(spacing) / np.diag(np.asarray(tensor.affine))[:3]
    sigma = np.maximum(0, (factors - 1) / 2)
    if not sigma.any():
        return tensor
    return GaussianSmooth(sigma=tuple(sigma.clip(1e-6)))(tensor)  # pyright: ignore[reportReturnType]


def check_resampled_size(scan: Volume, spacing: Sequence[float], case: str) -> None:
    """Refuses a scan that resampling would blow up or shrink to nothing.

    Args:
        scan: in its own grid.
        spacing: of the model, in mm along R, A and S.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: E_SIZE.
    """
    size = scan.field_of_view / np.asarray(spacing)
    if math.prod(size.tolist()) <= MAX_VOXELS and size.min() >= 1:
        return
    extent = " x ".join(f"{mm:.3g}" for mm in scan.field_of_view)
    raise DataError(
        "E_SIZE", case, f"a field of view of {extent} mm, which the model cannot take",
        "check the voxel size in its header, or crop it",
    )  # fmt: skip
