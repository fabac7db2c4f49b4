"""Deformation: a template bent to the anatomy of an aligned scan, by SimpleITK's demons.

Twelve numbers bring two heads onto each other, not their ventricles and sulci, and what is left
over hides lesions. The field is found at about 4 mm in a brain, and so smooth that small lesions do
not pull it.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from medgan.data.align import FINE
from medgan.data.alignment import sitk_image

if TYPE_CHECKING:
    import SimpleITK as sitk

_SIGMA = 2.0
"""Standard deviation of the blur of the field, in voxels of its resolution."""
_ITERATIONS = 20


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

    shrink = [max(1, round(max(fixed.shape) / FINE))] * 3
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
