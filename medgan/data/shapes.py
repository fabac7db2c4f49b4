"""Shapes of real lesions, planted into healthy scans.

Unlike the families of `lesions`, these have the size, the outline and, where asked for, the place
of what patients have. Volumes are on a model's grid, axes Right, Anterior, Superior, in [-1, 1].
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from medgan.core.errors import DataError
from medgan.data.lesions import LesionedScan
from medgan.data.shape_library import BRAIN, SPACING, LesionShape
from medgan.data.tissue import Tissue, clusters, tissue_of

Place = Literal["own", "random", "ventricles"]
Array = Float[np.ndarray, "X Y Z"]
Box = tuple[slice, slice, slice]
_TRIES = 12
_LEAST_INSIDE = 0.5
"""Smallest share of a shape that must lie in tissue."""
_LEAST_VOXELS = 3
"""Smallest lesion on the grid."""
_CLUSTERS = 4
"""Clusters of intensity inside a shape."""
_MANY, _SMALL = 1 / 3, 2.0
"""Share of training scans with many lesions, and the largest of these, in ml."""
_DARK, _BRIGHT = (0.2, 2.0), (0.5, 1.7)
"""Contrast in units of the difference between grey and white matter. In a patient with multiple
sclerosis, T1 lesions are darker than their surroundings by 0.2 to 0.8 (5th to 95th percentile),
FLAIR lesions brighter by 0.8 to 1.7; old infarcts go on to the level of fluid, 2.5."""


def draw_contrast(rng: np.random.Generator, bright: bool | None = None) -> float:
    """The contrast of a lesion in differences between grey and white matter; below 0 is dark.

    Args:
        rng: source of the numbers.
        bright: or dark; None draws either.
    """
    bright = bool(rng.integers(2)) if bright is None else bright
    low, high = _BRIGHT if bright else _DARK
    return (1 if bright else -1) * float(np.exp(rng.uniform(np.log(low), np.log(high))))


def plant_shape(
    volume: Array,
    shape: LesionShape,
    contrast: float,
    rng: np.random.Generator,
    place: Place = "own",
    tissue: Tissue | None = None,
) -> LesionedScan:
    """Plants a real lesion's shape into a healthy scan.

    The shape scales with the box around the tissue as it does from head to head, and lies where it
    lay in the patient or elsewhere, mirrored or not. Edges have partial volume. Some of
    the texture may be lost, and in half of the lesions only some clusters of intensity change.
    Fluid and air never change, and no lesion passes the level of fluid.

    Args:
        volume: a healthy scan.
        shape: to plant.
        contrast: of `draw_contrast`.
        rng: source of place and appearance.
        place: where it lay in the patient, anywhere in tissue, or along the ventricles.
        tissue: `tissue_of(volume)`, where many lesions are planted into one scan.

    Raises:
        DataError: E_LESION where the shape does not fit into tissue.

    Reference: Naval Marimont et al. 2024, DISYRE v2, arXiv 2407.06635 (shapes, clusters).
    """
    tissue = tissue_of(volume) if tissue is None else tissue
    for box, weight, centre in _positions(shape, tissue, place, rng):
        changed, weight = changed_tissue(volume[box], weight, contrast, tissue, rng)
        truth = (weight > 0.5) & (np.abs(changed - volume[box]) > abs(contrast) * tissue.unit / 4)
        if truth.sum() < _LEAST_VOXELS:
            continue
        planted, where = volume.copy(), np.zeros(volume.shape, bool)
        planted[box], where[box] = changed, truth
        x, y, z = (int(n) for n in np.rint(centre))
        return LesionedScan(planted, where, (x, y, z))
    raise _no_room(shape)


def placed_mask(
    shape: LesionShape, tissue: Tissue, rng: np.random.Generator, place: Place = "own"
) -> Bool[np.ndarray, "X Y Z"]:
    """Where a shape would lie in a healthy scan, by the rules of `plant_shape`.

    Raises:
        DataError: E_LESION where the shape does not fit into tissue.
    """
    for box, weight, _ in _positions(shape, tissue, place, rng):
        mask = np.zeros(tissue.share.shape, bool)
        mask[box] = weight > 0.5
        if mask.sum() >= _LEAST_VOXELS:
            return mask
    raise _no_room(shape)


def plant_shapes(
    volume: Array,
    shapes: Sequence[LesionShape],
    rng: np.random.Generator,
    most: int = 3,
    bright: bool | None = None,
    places: Tissue | None = None,
) -> tuple[Array, Bool[np.ndarray, "X Y Z"]]:
    """Plants up to `most` shapes, or many small ones along the ventricles and elsewhere.

    As training data: any place and contrast, all bright or all dark. A third of the scans get many,
    as in multiple sclerosis or with white matter hyperintensities, of similar contrast. A shape
    that does not fit is left out. Bright or dark is drawn unless `bright` is given.
    Of several channels, all take their places from the `tissue_of` the first.

    Returns:
        The scan, and the mask of its lesions.
    """
    bright = bool(rng.integers(2)) if bright is None else bright
    truth, tissue = np.zeros(volume.shape, bool), tissue_of(volume)
    if places is not None:
        tissue = replace(places, fluid=tissue.fluid, unit=tissue.unit)
    many = rng.random() < _MANY
    small = [shape for shape in shapes if shape.millilitres <= _SMALL] if many else []
    shapes = small or shapes
    kinds: tuple[Place, ...] = ("ventricles", "ventricles", "random") if many else ("own", "random")
    contrast = draw_contrast(rng, bright)
    for _ in range(int(rng.integers(4, 13) if many else rng.integers(1, most + 1))):
        shape, place = shapes[int(rng.integers(len(shapes)))], kinds[rng.integers(len(kinds))]
        own = contrast * float(rng.uniform(0.7, 1.4)) if many else draw_contrast(rng, bright)
        with suppress(DataError):
            planted = plant_shape(volume, shape, own, rng, place, tissue)
            volume, truth = planted.volume, truth | planted.truth
    return volume, truth


def _positions(
    shape: LesionShape, tissue: Tissue, place: Place, rng: np.random.Generator
) -> Iterator[tuple[Box, Array, Float[np.ndarray, "3"]]]:
    """Places where enough of a shape lies in tissue: the box, its weights there, the centre."""
    scale = SPACING * (tissue.high - tissue.low + 1) / (BRAIN[1] - BRAIN[0])
    scale = scale if place == "own" else scale * float(rng.uniform(0.8, 1.25))
    for _ in range(_TRIES if len(tissue.voxels) else 0):
        mask, centre = _placed(shape, place, tissue, rng)
        box, weight = _on_grid(mask, centre, scale, tissue.share.shape)
        weight = weight * tissue.share[box]
        if weight.sum() >= _LEAST_INSIDE * float(mask.sum() * scale.prod()):
            yield box, weight, centre


def _no_room(shape: LesionShape) -> DataError:
    return DataError(
        "E_LESION", f"a lesion of {shape.millilitres:.1f} ml", "does not fit into the tissue",
        "plant smaller lesions, or use scans with more tissue",
    )  # fmt: skip


def _placed(
    shape: LesionShape, place: Place, tissue: Tissue, rng: np.random.Generator
) -> tuple[np.ndarray, Float[np.ndarray, "3"]]:
    """The mask, mirrored or not, and where its centre goes, in voxels."""
    if place != "own":
        flips = tuple(slice(None, None, int(step)) for step in rng.choice((-1, 1), 3))
        voxels = tissue.voxels if place == "random" else tissue.beside_ventricles
        return shape.mask[flips], voxels[rng.integers(len(voxels))].astype(float)
    at, mirror = np.array(shape.centre), bool(rng.integers(2))
    if mirror:
        at[0] = 1 - at[0]
    at = at + rng.normal(0, 0.01, 3)
    centre = tissue.low - 0.5 + at * (tissue.high - tissue.low + 1)
    return (shape.mask[::-1] if mirror else shape.mask), centre


def _on_grid(
    mask: np.ndarray, centre: np.ndarray, scale: np.ndarray, shape: tuple[int, ...]
) -> tuple[Box, Array]:
    """The part of the grid that a mask touches, and its share of each voxel there.

    Sampling is separable: a triangle as wide as the coarser of both voxels.
    """
    boxes, weight = [], mask.astype(np.float32)
    for axis, (c, s, size) in enumerate(zip(centre, scale, shape, strict=True)):
        n = mask.shape[axis]
        reach = s * n / 2 + max(s, 1)
        start, stop = max(0, int(np.ceil(c - reach))), min(size, int(c + reach) + 1)
        place = (np.arange(start, stop) - c) / s + (n - 1) / 2
        taken = 1 - np.abs(place[:, None] - np.arange(n)) / max(1.0, 1 / s)
        taken = taken.clip(0) / max(1.0, 1 / s)
        weight = np.moveaxis(np.tensordot(taken.astype(np.float32), weight, (1, axis)), 0, axis)
        boxes.append(slice(start, max(start, stop)))
    x, y, z = boxes
    return (x, y, z), weight


def changed_tissue(
    volume: Array,
    weight: Array,
    contrast: float,
    tissue: Tissue,
    rng: np.random.Generator,
    patchy: bool = True,
) -> tuple[Array, Array]:
    """A box of a scan darker or brighter inside a lesion; texture and clusters are drawn.

    Args:
        volume: the box, in [-1, 1].
        weight: of the lesion at each voxel.
        contrast: of `draw_contrast`.
        tissue: of the whole scan.
        rng: source of the appearance.
        patchy: whether in half of the lesions only some clusters of intensity change.

    Returns:
        The lesioned box, and the weights in it after a choice of clusters.
    """
    texture, some = float(rng.uniform(0.3, 1)), bool(rng.integers(2)) and patchy
    picked = rng.random(_CLUSTERS) < 0.5
    picked[rng.integers(_CLUSTERS)] = True
    if some and (weight > 0.5).sum() > 10 * _CLUSTERS:
        centres, _ = clusters(volume[weight > 0.5], _CLUSTERS)
        at = np.interp(volume, centres, picked.astype(np.float32))
        weight = weight * at.astype(np.float32)
    mean = float((volume * weight).sum() / max(float(weight.sum()), 1e-6))
    lesion = texture * volume + (1 - texture) * mean + contrast * tissue.unit
    change = weight * (lesion - volume)
    change = change.clip(min=0) if contrast > 0 else change.clip(max=0)
    # Towards fluid no further than fluid.
    towards = np.sign(tissue.fluid - mean)
    room = np.maximum(towards * (tissue.fluid - volume), 0)
    if towards == np.sign(contrast):
        change = towards * np.minimum(towards * change, room)
    return (volume + change).clip(-1, 1).astype(np.float32), weight
