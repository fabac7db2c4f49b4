"""Do volumes give away the scans that a generator learned from? How alike volumes are, first."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

FINEST, COARSEST = 0.7, 2.0
"""Spreads of the two Gaussians, in voxels, between which details are compared. Chosen on real
hippocampi and brains (docs/explanation/audit.md): coarser, all brains are alike; finer, a blurred
or turned copy is no longer like its original."""
REACH = 2
"""Voxels that one volume may be shifted by against the other, along each axis."""
MOST_VOXELS = 160_000
"""Larger grids are halved until they have no more."""
_CHUNK = 128
_FLAT = 1e-3


def similarity(
    queries: Float[Tensor, "N 1 X Y Z"], references: Float[Tensor, "M 1 X Y Z"]
) -> Float[Tensor, "N M"]:
    """How alike every query is to every reference, whatever was done to hide it.

    Details between two sizes are compared, so that neither anatomy that all people share nor
    noise counts: the normalised cross-correlation of band-passed volumes, the largest over
    shifts of up to 2 voxels along each axis. It bears such shifts, other gain, offset and gamma,
    noise, slight blur, and turns of a few degrees. It is symmetric, and a pair's value depends on
    no other volume.

    Args:
        queries: intensities in [-1, 1], at least 8 voxels an axis.
        references: on the same grid.

    Returns:
        Values in [-1, 1], on the CPU; 1 for the same volume, 0 where one has no details at all.
    """
    found, known = [], _details(references)
    for part in queries.split(_CHUNK):
        details = _details(part)
        best = torch.full((len(part), len(references)), -1.0)
        for shift in itertools.product(range(-REACH, REACH + 1), repeat=3):
            ours, theirs = _overlap(details, shift), _overlap(known, [-s for s in shift])
            best = torch.maximum(best, ours @ theirs.T)
        found.append(best)
    return torch.cat(found).clamp(-1, 1)


def _details(volumes: Tensor) -> Float[Tensor, "N X Y Z"]:
    """Band-passed volumes, on a grid that is halved while it is large."""
    volumes = volumes.detach().float().cpu()
    while volumes[0].numel() > MOST_VOXELS:
        volumes = F.avg_pool3d(volumes, 2)
    passed = []
    for volume in volumes[:, 0].numpy():
        fine, coarse = (
            ndimage.gaussian_filter(volume, spread, mode="nearest", truncate=3.0)
            for spread in (FINEST, COARSEST)
        )
        passed.append(fine - coarse)
    return torch.from_numpy(np.stack(passed))


def _overlap(details: Tensor, shift: Sequence[int]) -> Float[Tensor, "N F"]:
    """What of volumes lies upon others that are shifted: every second voxel, standardised."""
    place = tuple(
        slice(max(0, s), n + min(0, s), 2) for s, n in zip(shift, details.shape[1:], strict=True)
    )
    values = details[(slice(None), *place)].flatten(1)
    values = values - values.mean(dim=1, keepdim=True)
    return values / values.norm(dim=1, keepdim=True).clamp(min=_FLAT)
