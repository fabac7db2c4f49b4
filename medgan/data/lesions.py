"""Synthetic lesions planted into healthy scans, so that their position is known.

A lesion has a family (the kind of change), a radius and a strength. It is made on the model's grid
and in its intensities, [-1, 1]. Planted lesions compare scorers. They do not stand for patients.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.core.volume import depth

Array = Float[np.ndarray, "X Y Z"]
CONTROL = "control"
"""In place of a family: the same processing without a change."""
STRENGTHS = {"faint": 2 / 3, "strong": 1.0}
"""Faint and strong change intensities by 0.2 and 0.3 of their whole range, the ends of what Tan et
al. 2020 (arXiv 2011.04197) plant."""
_VISIBLE = 0.05
"""Smallest change, smoothed with a standard deviation of one voxel and in units of [-1, 1], that
counts as lesion."""
_EDGE = 1.0
"""Voxels over which a lesion fades out, as partial volume does at a real one."""
_TRIES = 50
_CENTRE_DEPTH = 0.6
"""Distance of a lesion's centre from air, as a share of its radius."""
_COUNTS = (0.15, 0.45, 0.25, 0.15)
"""Probabilities of no, one, two and three lesions in a training scan."""
_TRAINING_RADII = (2.0, 7.0)
_TRAINING_STRENGTHS = (0.3, 1.1)
_CROP = 3.5
"""Half the edge, in radii, of the cube in which a lesion is made."""


class LesionSite(NamedTuple):
    """A cube of a scan, and the lesion that is planted at its centre.

    Attributes:
        volume: the healthy scan.
        donor: another healthy scan, for families that copy foreign tissue.
        dark: 5th percentile of the whole scan.
        offset: shape (3, X, Y, Z), each voxel's displacement from the centre.
        radius: in voxels.
        weight: 1 inside the lesion, 0 outside; it falls over the edge.
        strength: 1 is strong.
        rng: source of further random numbers.
    """

    volume: Array
    donor: Array
    dark: float
    offset: Float[np.ndarray, "3 X Y Z"]
    radius: float
    weight: Array
    strength: float
    rng: np.random.Generator


@dataclass(frozen=True)
class LesionedScan:
    """A scan with a planted lesion.

    Attributes:
        volume: (X, Y, Z) in [-1, 1].
        truth: (X, Y, Z), where it visibly differs from the healthy scan.
        centre: of the lesion, in voxels.
    """

    volume: Array
    truth: Bool[np.ndarray, "X Y Z"]
    centre: tuple[int, int, int]


def brighter(site: LesionSite) -> Array:
    """Raised by 0.6."""
    return site.volume + 0.6 * site.strength * site.weight


def darker(site: LesionSite) -> Array:
    """Lowered by 0.6."""
    return site.volume - 0.6 * site.strength * site.weight


def noise(site: LesionSite) -> Array:
    """Gaussian noise of standard deviation 0.4."""
    drawn = site.rng.standard_normal(site.volume.shape)
    return site.volume + 0.4 * site.strength * drawn * site.weight


def blur(site: LesionSite) -> Array:
    """Smoothed with a standard deviation of 2 voxels."""
    return _mixed(site, ndimage.gaussian_filter(site.volume, 2 * site.strength))


def fill(site: LesionSite) -> Array:
    """Replaced by its own mean: all structure is lost."""
    weight = site.weight / max(site.weight.sum(), 1e-6)
    return _mixed(site, np.full_like(site.volume, (site.volume * weight).sum()), site.strength)


def push(site: LesionSite) -> Array:
    """Tissue displaced outwards from the centre, as by a growing mass."""
    share = _distance(site) ** 2
    return _moved(site, (share - 1) * site.strength * site.offset * (share < 1))


def pull(site: LesionSite) -> Array:
    """Tissue contracted towards the centre."""
    share = _distance(site) ** 2
    return _moved(site, (1 - share) * site.strength * site.offset * (share < 1))


def shift(site: LesionSite) -> Array:
    """Replaced by neighbouring tissue, displaced by up to the radius."""
    direction = site.rng.standard_normal(3)
    step = site.strength * site.radius * direction / np.linalg.norm(direction)
    moved = _moved(site, np.broadcast_to(step[:, None, None, None], site.offset.shape))
    return _mixed(site, moved)


def reflection(site: LesionSite) -> Array:
    """Mirrored from left to right about its centre."""
    across = np.zeros_like(site.offset)
    across[0] = -2 * site.offset[0]
    return _mixed(site, _moved(site, across), site.strength)


def foreign(site: LesionSite) -> Array:
    """Replaced by the same position of another scan."""
    return _mixed(site, site.donor, site.strength)


def missing(site: LesionSite) -> Array:
    """Tissue removed: set to the 5th percentile of the scan."""
    return _mixed(site, np.full_like(site.volume, site.dark), site.strength)


def bias(site: LesionSite) -> Array:
    """Brightened or darkened by up to 60%, as by a coil, fading out smoothly."""
    bump = np.exp(-2 * _distance(site) ** 2)
    sign = site.rng.choice((-1, 1))
    return (site.volume + 1) * (1 + 0.6 * sign * site.strength * bump) - 1


def ghost(site: LesionSite) -> Array:
    """A faint displaced copy of neighbouring tissue, as a motion artefact."""
    direction = site.rng.standard_normal(3)
    step = 2 * site.radius * direction / np.linalg.norm(direction)
    echo = _moved(site, np.broadcast_to(step[:, None, None, None], site.offset.shape)) + 1
    return site.volume + 0.4 * site.strength * echo * site.weight


FAMILIES: dict[str, Callable[[LesionSite], Array]] = {
    family.__name__: family
    for family in (
        *(brighter, darker, noise, blur, fill, push, pull, shift),
        *(reflection, foreign, missing, bias, ghost),
    )
}


def plant(
    volume: Array,
    donor: Array,
    family: str,
    radius: float,
    strength: float,
    rng: np.random.Generator,
    depths: Array | None = None,
) -> LesionedScan:
    """Plants one lesion of irregular outline in tissue.

    Positions are drawn until at least a fifth of the lesion is visible.

    Args:
        volume: a healthy scan in [-1, 1].
        donor: another one, for the family that needs it.
        family: one of `FAMILIES`; or `CONTROL`, which changes nothing and has an empty truth.
        radius: in voxels.
        strength: of `STRENGTHS`, or 0 to 1.
        rng: source of position, outline and content.
        depths: `depth(volume)`, where many lesions are planted into one scan.

    Raises:
        DataError: E_LESION when no position fits.
    """
    centres = _centres(depth(volume) if depths is None else depths, radius)
    dark = float(np.quantile(volume[::2, ::2, ::2], 0.05))
    for _ in range(_TRIES if len(centres) else 0):
        x, y, z = (int(n) for n in centres[rng.integers(len(centres))])
        box = _box((x, y, z), radius, volume.shape)
        centre = np.array([x, y, z]) - [s.start for s in box]
        site = _site(volume[box], donor[box], dark, centre, radius, strength, rng)
        changed = site.volume if family == CONTROL else FAMILIES[family](site).clip(-1, 1)
        visible = ndimage.gaussian_filter(np.abs(changed - site.volume), 1) > _VISIBLE
        visible &= site.weight > 0
        if family == CONTROL or visible.sum() > (site.weight > 0).sum() / 5:
            whole, truth = volume.copy(), np.zeros(volume.shape, bool)
            whole[box], truth[box] = changed, visible & (family != CONTROL)
            return LesionedScan(whole, truth, (x, y, z))
    raise DataError(
        "E_LESION", family, f"no position fits a radius of {radius:g} voxels",
        "plant smaller lesions, or use scans with more tissue",
    )  # fmt: skip


def plant_several(
    volume: Array,
    donor: Array,
    families: Sequence[str],
    rng: np.random.Generator,
    depths: Array | None = None,
) -> tuple[Array, Bool[np.ndarray, "X Y Z"]]:
    """Plants none to three lesions of random size, as training data.

    Radii are 2 to 7 voxels, strengths faint to strong. A lesion that fits nowhere is left out.

    Args:
        volume: a healthy scan in [-1, 1].
        donor: another one, real or generated.
        families: of `FAMILIES`, to draw from.
        rng: source of all random numbers.
        depths: `depth(volume)`.

    Returns:
        The scan, and the mask of its lesions.
    """
    truth = np.zeros(volume.shape, bool)
    depths = depth(volume) if depths is None else depths
    for _ in range(int(rng.choice(len(_COUNTS), p=_COUNTS))):
        family = families[int(rng.integers(len(families)))]
        radius, strength = rng.uniform(*_TRAINING_RADII), rng.uniform(*_TRAINING_STRENGTHS)
        with suppress(DataError):
            planted = plant(volume, donor, family, radius, strength, rng, depths)
            volume, truth = planted.volume, truth | planted.truth
    return volume, truth


def _centres(depths: Array, radius: float) -> np.ndarray:
    """(N, 3) centres of balls inside the volume, most of each in tissue."""
    fits = np.zeros(depths.shape, bool)
    margin = int(np.ceil(radius))
    fits[(slice(margin, -margin),) * 3] = True
    return np.argwhere(fits & (depths > _CENTRE_DEPTH * radius))


def _box(
    centre: tuple[int, int, int], radius: float, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """The cube that a lesion can copy from: ghosts come from two radii beyond its edge."""
    reach = int(np.ceil(_CROP * radius))
    x, y, z = (
        slice(max(0, c - reach), min(n, c + reach + 1)) for c, n in zip(centre, shape, strict=True)
    )
    return x, y, z


def _site(
    volume: Array,
    donor: Array,
    dark: float,
    centre: np.ndarray,
    radius: float,
    strength: float,
    rng: np.random.Generator,
) -> LesionSite:
    offset = np.asarray(np.indices(volume.shape, np.float32))
    offset -= centre.astype(np.float32)[:, None, None, None]
    bumps = ndimage.gaussian_filter(rng.standard_normal(volume.shape), radius / 2)
    edge = radius * (1 + 0.15 * bumps / bumps.std()).clip(0.5, 1.5)
    distance = np.linalg.norm(offset, axis=0)
    weight = (0.5 + (edge - distance) / _EDGE).clip(0, 1).astype(np.float32)
    return LesionSite(volume, donor, dark, offset, radius, weight, strength, rng)


def _distance(site: LesionSite) -> Array:
    """From the centre, in radii."""
    return np.linalg.norm(site.offset, axis=0) / site.radius


def _mixed(site: LesionSite, other: Array, share: float = 1.0) -> Array:
    return site.volume + share * site.weight * (other - site.volume)


def _moved(site: LesionSite, step: Float[np.ndarray, "3 X Y Z"]) -> Array:
    """The scan resampled with a displacement at each voxel."""
    grid = np.asarray(np.indices(site.volume.shape, np.float32))
    return ndimage.map_coordinates(site.volume, grid + step, order=1, mode="nearest")
