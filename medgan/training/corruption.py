"""Healthy scans made unhealthy, to learn from: spatial and intensity augmentation, then lesions."""

import copy
from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.core.volume import depth
from medgan.data.lesions import plant_several
from medgan.data.shape_library import SHIPPED, LesionShape, read_shapes
from medgan.data.shapes import plant_shapes
from medgan.data.tissue import tissue_of

_GAMMA = 0.15
"""Spread of the logarithm of the gamma by which every second scan is changed."""
SHAPES = {"dark shape": False, "bright shape": True}
"""Families of lesions with shapes of real ones, by whether they are bright."""
_BIAS, _BLUR, _NOISE = 0.06, 0.8, 0.06
"""Spread of the logarithm of a bias field at its knots; largest blur in voxels; largest standard
deviation of noise in [-1, 1]."""
ALIGNED = 0.4
"""Extent of turns, stretches and shifts of scans that are aligned."""
_MOVED = 0.7
_TURN, _STRETCH, _SHIFT = 0.08, 0.06, 1.2
"""Share of scans that are moved; spreads of angles (radians), logarithms of sizes and voxels."""


def augmented(
    volume: Float[np.ndarray, "C X Y Z"],
    rng: np.random.Generator,
    extent: float = 1.0,
    images: int | None = None,
) -> Float[np.ndarray, "C X Y Z"]:
    """A scan with spatial and intensity augmentation, so that it is not learned by heart.

    Args:
        volume: in [-1, 1].
        rng: source of all random numbers.
        extent: of turns, stretches and shifts; smaller for scans that are aligned.
        images: channels of the scan; the others only move with it. None for all.
    """
    if rng.random() < _MOVED:
        volume = moved(volume, rng, extent)
    if rng.random() < 0.5:
        lit = 2 * ((volume[:images] + 1) / 2).clip(0, 1) ** np.exp(rng.normal(0, _GAMMA)) - 1
        volume = np.concatenate([lit, volume[len(lit) :]])
    return volume.astype(np.float32)


def moved(
    volume: Float[np.ndarray, "C X Y Z"], rng: np.random.Generator, extent: float = 1.0
) -> Float[np.ndarray, "C X Y Z"]:
    """Turned by some degrees, stretched along each axis, shifted by a voxel or two."""
    turn = Rotation.from_rotvec(extent * rng.normal(0, _TURN, 3)).as_matrix()
    matrix = turn * np.exp(extent * rng.normal(0, _STRETCH, 3))
    centre = (np.array(volume.shape[1:]) - 1) / 2
    offset = centre - matrix @ centre + extent * rng.normal(0, _SHIFT, 3)
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


def as_another_scanner(
    volume: Float[np.ndarray, "C X Y Z"], rng: np.random.Generator
) -> Float[np.ndarray, "C X Y Z"]:
    """With a bias field, a sharpness and noise of another scanner, of which none is a lesion.

    Each is drawn for every second scan; air stays air.
    """
    air = volume <= -1
    if rng.random() < 0.5:
        field = rng.normal(0, _BIAS, (3, 3, 3)).astype(np.float32)
        for axis, size in enumerate(volume.shape[1:]):
            field = np.moveaxis(np.tensordot(_between_knots(size), field, (1, axis)), 0, axis)
        volume = (volume + 1) * np.exp(field) - 1
    if rng.random() < 0.5:
        sigma = rng.uniform(0, _BLUR, 3)
        volume = np.stack([ndimage.gaussian_filter(one, sigma) for one in volume])
    if rng.random() < 0.5:
        volume = volume + rng.uniform(0, _NOISE) * rng.standard_normal(volume.shape)
    return np.where(air, -1, volume.clip(-1, 1)).astype(np.float32)


@cache
def _between_knots(size: int) -> Float[np.ndarray, "N 3"]:
    """Cubic splines along one axis: what each of three knots adds to each voxel.

    Axis by axis, a field takes a fiftieth of the time of `ndimage.zoom` in three dimensions, which
    was a fifth of that of training on brains.
    """
    weights = ndimage.zoom(np.eye(3), (size / 3, 1), order=3, mode="nearest", grid_mode=True)
    return np.asarray(weights, np.float32)


def planted(
    volume: Float[np.ndarray, "C X Y Z"],
    donor: Float[np.ndarray, "C X Y Z"],
    families: Sequence[str],
    rng: np.random.Generator,
    depths: Float[np.ndarray, "X Y Z"],
) -> tuple[Float[np.ndarray, "C X Y Z"], Bool[np.ndarray, "1 X Y Z"]]:
    """Lesions of some families in every channel, from the same random numbers and depths.

    Half of the scans get those of `plant_several`, the others shapes of real lesions, where both
    are among the families.
    """
    procedural = [family for family in families if family not in SHAPES]
    shaped = [family for family in families if family in SHAPES]
    if shaped and (not procedural or rng.random() < 0.5):
        shapes, bright = shipped_shapes(), SHAPES[shaped[int(rng.integers(len(shaped)))]]
        places = tissue_of(volume[0])
        made = [
            plant_shapes(one, shapes, of_channel, bright=bright, places=places)
            for one, of_channel in zip(volume, _alike(rng, len(volume)), strict=True)
        ]
    else:
        made = [
            plant_several(one, other, procedural, of_channel, depths)
            for one, other, of_channel in zip(volume, donor, _alike(rng, len(volume)), strict=True)
        ]
    return np.stack([one for one, _ in made]), np.any([mask for _, mask in made], axis=0)[None]


def _alike(rng: np.random.Generator, count: int) -> list[np.random.Generator]:
    """The generator and copies of it, one a channel."""
    return [rng, *(copy.deepcopy(rng) for _ in range(count - 1))]


@cache
def shipped_shapes() -> tuple[LesionShape, ...]:
    """The library of shapes of real lesions that comes with medgan."""
    return read_shapes(SHIPPED)
