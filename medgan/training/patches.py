"""Patches of large scans, most of them about a lesion, to learn from."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_PATCH, _PATCHES = 48, 4
"""Longest edge of a patch in voxels, and patches of a scan that is larger: to make a brain at 2 mm
and to see how unusual it is takes as long as the network takes for four patches."""
_WHOLE = 64
"""Longest edge of scans that are shown whole. Lesions are a small share of a brain at 2 mm: after
2,500 whole ones, with a loss that has changed since, a localiser had found none."""
_ON_LESION = 0.8
"""Share of patches about a lesion; the others lie anywhere."""


def patches_of(shape: Sequence[int]) -> int:
    """Patches that are cut from a scan of (X, Y, Z) voxels; 1 where it is shown whole."""
    return 1 if max(shape) <= _WHOLE else _PATCHES


def cut_patches(
    shown: Float[Tensor, "B C X Y Z"],
    truth: Float[Tensor, "B 1 X Y Z"],
    count: int,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "N C x y z"], Float[Tensor, "N 1 x y z"]]:
    """Some patches of each scan, most of them about one of its lesions."""
    shape = np.array(shown.shape[2:])
    size = np.minimum(_PATCH, shape)
    boxes: list[tuple[int, ...]] = []
    for number, mask in enumerate(truth[:, 0].cpu().numpy()):
        lesions = np.argwhere(mask > 0)
        for _ in range(count):
            low = rng.integers(0, shape - size + 1)
            if len(lesions) and rng.random() < _ON_LESION:
                centre = lesions[rng.integers(len(lesions))] + rng.integers(
                    -size // 3, size // 3 + 1
                )
                low = (centre - size // 2).clip(0, shape - size)
            boxes.append((number, *(int(n) for n in low)))

    def cut(volumes: Tensor) -> Tensor:
        a, b, c = (int(n) for n in size)
        return torch.stack([volumes[n, :, x : x + a, y : y + b, z : z + c] for n, x, y, z in boxes])

    return cut(shown), cut(truth)
