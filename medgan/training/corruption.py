"""Healthy scans made unhealthy, to learn from: spatial and intensity augmentation, then lesions."""

import copy
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.core.volume import depth
from medgan.data.lesions import plant_several

_GAMMA = 0.15
"""Spread of the logarithm of the gamma by which every second scan is changed."""
_MOVED = 0.7
_TURN, _STRETCH, _SHIFT = 0.08, 0.06, 1.2
"""Share of scans that are moved; spreads of angles (radians), logarithms of sizes and voxels."""


def augmented(
    volume: Float[np.ndarray, "C X Y Z"], rng: np.random.Generator
) -> Float[np.ndarray, "C X Y Z"]:
    """A scan with spatial and intensity augmentation, so that it is not learned by heart."""
    if rng.random() < _MOVED:
        volume = moved(volume, rng)
    if rng.random() < 0.5:
        volume = 2 * ((volume + 1) / 2).clip(0, 1) ** np.exp(rng.normal(0, _GAMMA)) - 1
    return volume.astype(np.float32)


def moved(
    volume: Float[np.ndarray, "C X Y Z"], rng: np.random.Generator
) -> Float[np.ndarray, "C X Y Z"]:
    """Turned by some degrees, stretched along each axis, shifted by a voxel or two."""
    turn = Rotation.from_rotvec(rng.normal(0, _TURN, 3)).as_matrix()
    matrix = turn * np.exp(rng.normal(0, _STRETCH, 3))
    centre = (np.array(volume.shape[1:]) - 1) / 2
    offset = centre - matrix @ centre + rng.normal(0, _SHIFT, 3)
    return np.stack(
        [ndimage.affine_transform(one, matrix, offset, order=1, mode="nearest") for one in volume]
    )


def lesioned(
    volume: Float[np.ndarray, "C X Y Z"],
    donor: Float[np.ndarray, "C X Y Z"],
    families: Sequence[str],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "C X Y Z"], Float[np.ndarray, "1 X Y Z"]]:
    """The scan with none to three lesions, in every channel from the same random numbers.

    Args:
        volume: a healthy scan in [-1, 1].
        donor: another one, for families that put foreign tissue there.
        families: of lesions.
        rng: source of everything.

    Returns:
        The scan, and where it is not healthy in any channel.
    """
    rng = np.random.default_rng(int(rng.integers(2**32)))
    corrupted, truth = planted(volume, donor, families, rng, tissue_depth(volume))
    return corrupted.astype(np.float32), truth.astype(np.float32)


def tissue_depth(volume: Float[np.ndarray, "C X Y Z"]) -> Float[np.ndarray, "X Y Z"]:
    """How far each voxel lies from air, in voxels: the most of all channels."""
    return np.max([depth(one) for one in volume], axis=0)


def planted(
    volume: Float[np.ndarray, "C X Y Z"],
    donor: Float[np.ndarray, "C X Y Z"],
    families: Sequence[str],
    rng: np.random.Generator,
    depths: Float[np.ndarray, "X Y Z"],
) -> tuple[Float[np.ndarray, "C X Y Z"], Bool[np.ndarray, "1 X Y Z"]]:
    """Lesions of `plant_several` in every channel, from the same random numbers and depths."""
    generators = [copy.deepcopy(rng) for _ in volume[1:]]
    made = [
        plant_several(one, other, families, of_channel, depths)
        for one, other, of_channel in zip(volume, donor, [rng, *generators], strict=True)
    ]
    return np.stack([one for one, _ in made]), np.any([mask for _, mask in made], axis=0)[None]
