"""Deformation: a template bent to the anatomy of an aligned scan, by SimpleITK's demons.

Twelve numbers bring two heads onto each other, not their ventricles and sulci, and what is left
over hides lesions. The field is found at half the resolution, and so smooth that small lesions do
not pull it.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from medgan.data.alignment import sitk_image

if TYPE_CHECKING:
    import SimpleITK as sitk

_SHRINK = 2
_SIGMA = 2.0
"""Standard deviation of the blur of the field, in voxels of the half resolution."""
_ITERATIONS = 20
_LEAST = 8
"""Voxels along each axis at half the resolution, below which fields mean nothing."""


def deformation(
    fixed: Float[np.ndarray, "X Y Z"], moving: Float[np.ndarray, "X Y Z"]
) -> "sitk.Image":
    """The field that bends one volume to another on the same grid, for `bent`.

    Args:
        fixed: in [-1, 1].
        moving: in [-1, 1].

    Reference: Vercauteren et al. 2009, Diffeomorphic demons, NeuroImage 45(1), S61 (symmetric
        forces).
    """
    import SimpleITK as sitk

    shrink = [_SHRINK if n >= _SHRINK * _LEAST else 1 for n in fixed.shape]
    images = [
        sitk.Shrink(sitk.SmoothingRecursiveGaussian(sitk_image(one), [1.0] * 3), shrink)
        for one in (fixed, moving)
    ]
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfThreads(1)
    demons.SetNumberOfIterations(_ITERATIONS)
    demons.SetStandardDeviations(_SIGMA)
    return demons.Execute(*images)


def bent(moving: Float[np.ndarray, "C X Y Z"], field: "sitk.Image") -> Float[np.ndarray, "C X Y Z"]:
    """Volumes on one grid, bent by a field of `deformation`."""
    import SimpleITK as sitk

    grid, how = sitk_image(moving[0]), sitk.sitkLinear
    whole = sitk.Resample(field, grid, sitk.Transform(), how, 0.0, sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(whole)
    # beyond the grid as at its edge, where nothing would be a spread of 0
    moved = [
        sitk.Resample(sitk_image(one), transform, how, 0.0, sitk.sitkFloat32, True)
        for one in moving
    ]
    return np.stack([np.ascontiguousarray(sitk.GetArrayViewFromImage(one).T) for one in moved])
