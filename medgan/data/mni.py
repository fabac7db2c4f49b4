"""MNI152 space, in which places in brains have coordinates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from medgan.core.volume import Volume
from medgan.data.align import COARSE, Aligner

_MEAN = Path(__file__).parent / "mni152" / "mean.npz"
"""Mean T1 of 152 brains at 4 mm; source and licence lie beside the file."""
_BRAIN = 0.93
"""Agreement from which a template is a brain: it was 0.96 for the mean of 81 T1 scans, 0.90 for a
ball, 0.82 for phantoms of heads, and 0.3 for crops about the hippocampus."""
_VOXELS = (COARSE, 32)
"""Resolutions of the registration, coarser than of scans: coordinates within 1 mm, in a third of
the time."""


def mni152() -> Volume:
    """The mean T1 of 152 brains, without skull; its world is MNI152 space."""
    with np.load(_MEAN, allow_pickle=False) as stored:
        return Volume(stored["mean"].astype(np.float32), stored["affine"])


def mni_affine(
    mean: Float[np.ndarray, "X Y Z"], spacing: Sequence[float]
) -> Float[np.ndarray, "4 4"] | None:
    """Voxel indices of a template to mm in MNI152 space.

    Args:
        mean: the template.
        spacing: of its grid in mm.

    Returns:
        None for a template that is no brain.
    """
    align = Aligner(mean, spacing, "affine", agreement=0.0, voxels=_VOXELS)  # from its header alone
    brain = mni152()
    found = align(brain)
    return brain.affine @ found.matrix if found.agreement > _BRAIN else None
