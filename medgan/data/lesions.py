"""Lesions planted into healthy scans, so that it is known where they are.

A lesion is a family (what it does), a radius and a strength at a place. Everything happens on the
model's grid and in its intensities, [-1, 1]; what a scan was before stays beside it as its pair.
Planted lesions tell scorers apart. They are not patients.
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
SHAM = "sham"
STRENGTHS = {"faint": 2 / 3, "strong": 1.0}
"""Faint and strong change intensities by 0.2 and 0.3 of their whole range, the ends of what Tan et
al. 2020 (arXiv 2011.04197) plant."""
_SHOWS = 0.05
"""Smallest change, smoothed over a voxel or two and in units of [-1, 1], that counts as lesion."""
_EDGE = 1.0
"""Voxels over which a lesion ends, as one does that fills a voxel in part."""
_TRIES = 50
_INSIDE = 0.6
"""Share of its radius by which a lesion's centre is away from air."""
_HOW_MANY = (0.15, 0.45, 0.25, 0.15)
_LEARNED_RADII = (2.0, 7.0)
_LEARNED_STRENGTHS = (0.3, 1.1)
_REACH = 3.5
"""Half the edge, in radii, of the cube in which a lesion is made."""


class Around(NamedTuple):
    """What surrounds a place.

    Attributes:
        volume: the healthy scan.
        donor: another healthy scan, for families that put foreign tissue there.
        dark: what a twentieth of the whole scan lies below.
    """

    volume: Array
    donor: Array
    dark: float


class Site(NamedTuple):
    """Where a lesion goes, and what it is made from.

    Attributes:
        near: what is there.
        offset: shape (3, X, Y, Z), each voxel's place from the centre.
        radius: in voxels.
        inside: 1 within, 0 outside; it falls over the edge.
        strength: 1 is strong.
        rng: source of what else is drawn.
    """

    near: Around
    offset: Float[np.ndarray, "3 X Y Z"]
    radius: float
    inside: Array
    strength: float
    rng: np.random.Generator


@dataclass(frozen=True)
class Planted:
    """A scan with a lesion.

    Attributes:
        volume: (X, Y, Z) in [-1, 1].
        truth: (X, Y, Z), where it differs visibly from the healthy scan.
        centre: of the lesion, in voxels.
    """

    volume: Array
    truth: Bool[np.ndarray, "X Y Z"]
    centre: tuple[int, int, int]


def brighter(site: Site) -> Array:
    """Raised by 0.6."""
    return site.near.volume + 0.6 * site.strength * site.inside


def darker(site: Site) -> Array:
    """Lowered by 0.6."""
    return site.near.volume - 0.6 * site.strength * site.inside


def noise(site: Site) -> Array:
    """Gaussian noise of standard deviation 0.4."""
    drawn = site.rng.standard_normal(site.near.volume.shape)
    return site.near.volume + 0.4 * site.strength * drawn * site.inside


def blur(site: Site) -> Array:
    """Smoothed with a standard deviation of 2 voxels."""
    return _mixed(site, ndimage.gaussian_filter(site.near.volume, 2 * site.strength))


def fill(site: Site) -> Array:
    """Filled with its own mean: all structure gone."""
    weight = site.inside / max(site.inside.sum(), 1e-6)
    return _mixed(
        site, np.full_like(site.near.volume, (site.near.volume * weight).sum()), site.strength
    )


def push(site: Site) -> Array:
    """Tissue moved outwards from the centre, as by something that grows there."""
    share = _distance(site) ** 2
    return _moved(site, (share - 1) * site.strength * site.offset * (share < 1))


def pull(site: Site) -> Array:
    """Tissue drawn together towards the centre."""
    share = _distance(site) ** 2
    return _moved(site, (1 - share) * site.strength * site.offset * (share < 1))


def shift(site: Site) -> Array:
    """What lies beside it, by up to its radius."""
    direction = site.rng.standard_normal(3)
    step = site.strength * site.radius * direction / np.linalg.norm(direction)
    moved = _moved(site, np.broadcast_to(step[:, None, None, None], site.offset.shape))
    return _mixed(site, moved)


def reflection(site: Site) -> Array:
    """Its own mirror image across the plane between left and right."""
    across = np.zeros_like(site.offset)
    across[0] = -2 * site.offset[0]
    return _mixed(site, _moved(site, across), site.strength)


def foreign(site: Site) -> Array:
    """The same place of another scan."""
    return _mixed(site, site.near.donor, site.strength)


def missing(site: Site) -> Array:
    """Tissue gone: as dark as the scan's darkest twentieth."""
    return _mixed(site, np.full_like(site.near.volume, site.near.dark), site.strength)


def bias(site: Site) -> Array:
    """Brightened or darkened by 60%, as a coil would, fading out over the whole of it."""
    bump = np.exp(-2 * _distance(site) ** 2)
    sign = site.rng.choice((-1, 1))
    return (site.near.volume + 1) * (1 + 0.6 * sign * site.strength * bump) - 1


def ghost(site: Site) -> Array:
    """A faint second image of what lies beside it, as motion leaves."""
    direction = site.rng.standard_normal(3)
    step = 2 * site.radius * direction / np.linalg.norm(direction)
    echo = _moved(site, np.broadcast_to(step[:, None, None, None], site.offset.shape)) + 1
    return site.near.volume + 0.4 * site.strength * echo * site.inside


FAMILIES: dict[str, Callable[[Site], Array]] = {
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
    deep: Array | None = None,
) -> Planted:
    """Plants one lesion where there is tissue; its outline is irregular.

    Places are drawn until at least a fifth of the lesion shows.

    Args:
        volume: a healthy scan in [-1, 1].
        donor: another one, for the family that needs it.
        family: one of `FAMILIES`, or `SHAM`: the same way without a change, with an empty truth.
        radius: in voxels.
        strength: of `STRENGTHS`, or 0 to 1.
        rng: source of place, outline and content.
        deep: what `depth` says of the volume, where it is asked for many lesions.

    Raises:
        DataError: E_LESION when there is no place for it.
    """
    places = _places(depth(volume) if deep is None else deep, radius)
    dark = float(np.quantile(volume[::2, ::2, ::2], 0.05))
    for _ in range(_TRIES if len(places) else 0):
        x, y, z = (int(n) for n in places[rng.integers(len(places))])
        box = _around((x, y, z), radius, volume.shape)
        near = Around(volume[box], donor[box], dark)
        site = _site(near, np.array([x, y, z]) - [s.start for s in box], radius, strength, rng)
        changed = near.volume if family == SHAM else FAMILIES[family](site).clip(-1, 1)
        shows = ndimage.gaussian_filter(np.abs(changed - near.volume), 1) > _SHOWS
        shows &= site.inside > 0
        if family == SHAM or shows.sum() > (site.inside > 0).sum() / 5:
            whole, truth = volume.copy(), np.zeros(volume.shape, bool)
            whole[box], truth[box] = changed, shows & (family != SHAM)
            return Planted(whole, truth, (x, y, z))
    raise DataError(
        "E_LESION", family, f"no place for a radius of {radius:g} voxels",
        "plant smaller lesions, or scans with more tissue",
    )  # fmt: skip


def plant_some(
    volume: Array,
    donor: Array,
    families: Sequence[str],
    rng: np.random.Generator,
    deep: Array | None = None,
) -> tuple[Array, Bool[np.ndarray, "X Y Z"]]:
    """Plants none to three lesions of any size, to learn from.

    Radii run from 2 to 7 voxels and strengths from faint to strong; what finds no place is left
    out.

    Args:
        volume: a healthy scan in [-1, 1].
        donor: another one, real or generated.
        families: of `FAMILIES`, to draw from.
        rng: source of everything.
        deep: what `depth` says of the volume.

    Returns:
        The scan, and where it is not healthy any more.
    """
    truth = np.zeros(volume.shape, bool)
    deep = depth(volume) if deep is None else deep
    for _ in range(int(rng.choice(len(_HOW_MANY), p=_HOW_MANY))):
        family = families[int(rng.integers(len(families)))]
        radius, strength = rng.uniform(*_LEARNED_RADII), rng.uniform(*_LEARNED_STRENGTHS)
        with suppress(DataError):
            planted = plant(volume, donor, family, radius, strength, rng, deep)
            volume, truth = planted.volume, truth | planted.truth
    return volume, truth


def _places(deep: Array, radius: float) -> np.ndarray:
    """(N, 3) centres of balls that lie in the scan, most of each in tissue."""
    fits = np.zeros(deep.shape, bool)
    margin = int(np.ceil(radius))
    fits[(slice(margin, -margin),) * 3] = True
    return np.argwhere(fits & (deep > _INSIDE * radius))


def _around(
    centre: tuple[int, int, int], radius: float, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """All that a lesion can look at: ghosts come from two radii off its edge."""
    reach = int(np.ceil(_REACH * radius))
    x, y, z = (
        slice(max(0, c - reach), min(n, c + reach + 1)) for c, n in zip(centre, shape, strict=True)
    )
    return x, y, z


def _site(
    near: Around, centre: np.ndarray, radius: float, strength: float, rng: np.random.Generator
) -> Site:
    shape = near.volume.shape
    offset = np.asarray(np.indices(shape, np.float32))
    offset -= centre.astype(np.float32)[:, None, None, None]
    bumps = ndimage.gaussian_filter(rng.standard_normal(shape), radius / 2)
    edge = radius * (1 + 0.15 * bumps / bumps.std()).clip(0.5, 1.5)
    distance = np.linalg.norm(offset, axis=0)
    inside = (0.5 + (edge - distance) / _EDGE).clip(0, 1).astype(np.float32)
    return Site(near, offset, radius, inside, strength, rng)


def _distance(site: Site) -> Array:
    """From the centre, in radii."""
    return np.linalg.norm(site.offset, axis=0) / site.radius


def _mixed(site: Site, other: Array, share: float = 1.0) -> Array:
    return site.near.volume + share * site.inside * (other - site.near.volume)


def _moved(site: Site, step: Float[np.ndarray, "3 X Y Z"]) -> Array:
    """The scan as seen a step further at each voxel."""
    grid = np.asarray(np.indices(site.near.volume.shape, np.float32))
    return ndimage.map_coordinates(site.near.volume, grid + step, order=1, mode="nearest")
