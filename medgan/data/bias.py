"""N4: the bias field that a coil leaves on an MRI."""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from medgan.core.volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

_COARSE_MM = 4.0
"""Voxel size in mm at which the field is estimated; it varies over centimetres."""
_MESH_MM = 100.0
"""Largest distance of the spline's control points on the coarsest level."""
_ITERATIONS = (50, 50, 30)
"""At most on each level; each halves the distance of the control points."""


def without_bias(scan: Volume, mask: Bool[np.ndarray, "X Y Z"]) -> Float[np.ndarray, "X Y Z"]:
    """The scan divided by its bias field, whose geometric mean in the mask is 1.

    The field is estimated at about 4 mm or coarser within the mask. Beyond it, it is that of the
    nearest voxel of the mask's box.

    Args:
        scan: MRI, in its own grid.
        mask: its tissue.

    Returns:
        float32. Voxels at or below 0, which have no logarithm, keep their values.

    Reference: Tustison et al. 2010, N4ITK, doi 10.1109/TMI.2010.2046908.
    """
    import SimpleITK as sitk

    data = np.asarray(scan.data, dtype=np.float32)
    tissue = mask & (data > 0)
    if not tissue.any():
        return data
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(tissue))
    image, inside = (_image(part[box], scan) for part in (data, tissue.astype(np.uint8)))
    factors = [
        max(1, min(math.ceil(_COARSE_MM / mm), size // 4))
        for mm, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    coarse = sitk.Shrink(image, factors)
    field = _log_field(coarse, sitk.Shrink(inside, factors))
    # Its samples begin at the origin that the coarse image names, in mm.
    first = np.array(coarse.GetOrigin()) / image.GetSpacing()
    field = ndimage.affine_transform(
        field, 1 / np.array(factors), (-first / factors).tolist(),
        data[box].shape, order=1, mode="nearest",
    )  # fmt: skip
    field = np.exp(field - field[tissue[box]].mean())
    edges = [(one.start, size - one.stop) for one, size in zip(box, data.shape, strict=True)]
    return np.where(data > 0, data / np.pad(field, edges, mode="edge"), data)


def _log_field(coarse: "sitk.Image", mask: "sitk.Image") -> Float[np.ndarray, "X Y Z"]:
    import SimpleITK as sitk

    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    extent = np.multiply(coarse.GetSpacing(), coarse.GetSize())
    order = n4.GetSplineOrder()
    n4.SetNumberOfControlPoints([order + max(1, round(mm / _MESH_MM)) for mm in extent.tolist()])
    n4.Execute(coarse, mask)
    return sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(coarse)).transpose(2, 1, 0)


def _image(data: np.ndarray, scan: Volume) -> "sitk.Image":
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    image.SetSpacing(scan.spacing)
    return image
