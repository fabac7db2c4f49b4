"""Patches of whole scans, of which most hold tissue."""

import numpy as np
from jaxtyping import Float, Int

_AIR = -0.95
"""What is darker in all channels is no tissue, in [-1, 1]."""
_ANYWHERE = 0.1
"""Share of patches that lie anywhere, so that air is learned too."""


def random_patch(
    volume: Float[np.ndarray, "C X Y Z"],
    label: Int[np.ndarray, "X Y Z"] | None,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "C x y z"], Int[np.ndarray, "x y z"] | None]:
    """A patch about a voxel that all channels saw, and most often about tissue.

    Args:
        volume: a whole scan in [-1, 1], NaN where a channel was not seen.
        label: its label map.
        shape: of the patch; what lies beyond the scan is NaN, and label 0.
        rng: source of the place.
    """
    seen = np.isfinite(volume).all(axis=0)
    if rng.random() >= _ANYWHERE:
        seen &= (volume > _AIR).any(axis=0)
    places = np.flatnonzero(seen)
    place = places[rng.integers(len(places))] if len(places) else rng.integers(seen.size)
    centre = np.array(np.unravel_index(place, seen.shape))
    return patch_about(volume, label, centre, shape)


def patch_about(
    volume: Float[np.ndarray, "C X Y Z"],
    label: Int[np.ndarray, "X Y Z"] | None,
    centre: Int[np.ndarray, "3"],
    shape: tuple[int, int, int],
) -> tuple[Float[np.ndarray, "C x y z"], Int[np.ndarray, "x y z"] | None]:
    """The patch about a voxel, moved into the scan as far as it fits; others as `random_patch`."""
    extent, size = np.array(volume.shape[1:]), np.array(shape)
    spare = extent - size
    low = np.where(spare >= 0, (centre - size // 2).clip(0, spare.clip(0)), spare // 2)
    part = tuple(slice(max(0, a), a + b) for a, b in zip(low, size, strict=True))
    into = tuple(
        slice(max(0, -a), max(0, -a) + len(range(*p.indices(n))))
        for a, p, n in zip(low, part, extent, strict=True)
    )
    patch = np.full((len(volume), *shape), np.nan, np.float32)
    patch[(slice(None), *into)] = volume[(slice(None), *part)]
    if label is None:
        return patch, None
    labels = np.zeros(shape, label.dtype)
    labels[into] = label[part]
    return patch, labels
