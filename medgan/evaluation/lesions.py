"""Lesions planted into healthy scans, so that it is known where they are.

A lesion is a family (what it does), a radius and a strength at a place. Everything happens on the
model's grid and in its intensities, [-1, 1]; what a scan was before stays beside it as its pair.
Planted lesions tell scorers apart. They are not patients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from medgan.errors import DataError

Array = Float[np.ndarray, "X Y Z"]
STRENGTHS = {"faint": 0.5, "strong": 1.0}
_SHOWS = 0.05
"""Smallest change, smoothed over a voxel or two and in units of [-1, 1], that counts as lesion."""
_EDGE = 0.3
"""Share of the radius over which a lesion fades out."""
_TRIES = 50
_INSIDE = 0.9
"""Share of a lesion that lies in the foreground."""


class Site(NamedTuple):
    """Where a lesion goes, and what it is made from.

    Attributes:
        volume: the healthy scan.
        donor: another healthy scan, for families that put foreign tissue there.
        offset: shape (3, X, Y, Z), each voxel's place from the centre.
        radius: in voxels.
        inside: 1 in the middle, 0 from the edge on; between them it falls over the outer part.
        strength: 1 is strong.
        rng: source of what else is drawn.
    """

    volume: Array
    donor: Array
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
    return site.volume + 0.6 * site.strength * site.inside


def darker(site: Site) -> Array:
    """Lowered by 0.6."""
    return site.volume - 0.6 * site.strength * site.inside


def noise(site: Site) -> Array:
    """Gaussian noise of standard deviation 0.4."""
    drawn = site.rng.standard_normal(site.volume.shape)
    return site.volume + 0.4 * site.strength * drawn * site.inside


def blur(site: Site) -> Array:
    """Smoothed with a standard deviation of 2 voxels."""
    return _mixed(site, ndimage.gaussian_filter(site.volume, 2 * site.strength))


def fill(site: Site) -> Array:
    """Filled with its own mean: all structure gone."""
    weight = site.inside / max(site.inside.sum(), 1e-6)
    return _mixed(site, np.full_like(site.volume, (site.volume * weight).sum()), site.strength)


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
    return _mixed(site, site.donor, site.strength)


def missing(site: Site) -> Array:
    """Tissue gone: as dark as the scan's darkest twentieth."""
    dark = np.full_like(site.volume, np.quantile(site.volume, 0.05))
    return _mixed(site, dark, site.strength)


def bias(site: Site) -> Array:
    """Brightened or darkened by 60%, as a coil would, fading out over the whole of it."""
    bump = np.exp(-2 * _distance(site) ** 2)
    sign = site.rng.choice((-1, 1))
    return (site.volume + 1) * (1 + 0.6 * sign * site.strength * bump) - 1


def ghost(site: Site) -> Array:
    """A faint second image of what lies beside it, as motion leaves."""
    direction = site.rng.standard_normal(3)
    step = 2 * site.radius * direction / np.linalg.norm(direction)
    echo = _moved(site, np.broadcast_to(step[:, None, None, None], site.offset.shape)) + 1
    return site.volume + 0.4 * site.strength * echo * site.inside


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
) -> Planted:
    """Plants one lesion where there is tissue; its outline is irregular.

    Places are drawn until at least a fifth of the lesion shows.

    Args:
        volume: a healthy scan in [-1, 1].
        donor: another one, for the family that needs it.
        family: one of `FAMILIES`, or `sham`: the same way without a change, with an empty truth.
        radius: in voxels.
        strength: of `STRENGTHS`, or 0 to 1.
        rng: source of place, outline and content.

    Raises:
        DataError: E_LESION when there is no place for it.
    """
    places = _places(volume, radius)
    for _ in range(_TRIES if len(places) else 0):
        centre = places[rng.integers(len(places))]
        site = _site(volume, donor, centre, radius, strength, rng)
        changed = volume if family == "sham" else FAMILIES[family](site)
        changed = changed.clip(-1, 1).astype(volume.dtype)
        shows = ndimage.gaussian_filter(np.abs(changed - volume), 1) > _SHOWS
        truth = shows & (site.inside > 0)
        if family == "sham" or truth.sum() > (site.inside > 0).sum() / 5:
            x, y, z = (int(n) for n in centre)
            return Planted(changed, truth, (x, y, z))
    raise DataError(
        "E_LESION", family, f"no place for a radius of {radius:g} voxels",
        "plant smaller lesions, or scans with more tissue",
    )  # fmt: skip


def _places(volume: Array, radius: float) -> np.ndarray:
    """(N, 3) centres around which a ball is nearly all tissue, and all of it in the scan."""
    tissue = ndimage.gaussian_filter((volume > -0.9).astype(np.float32), radius / 2)
    fits = np.zeros(volume.shape, bool)
    margin = int(np.ceil(radius))
    fits[(slice(margin, -margin),) * 3] = True
    return np.argwhere(fits & (tissue > _INSIDE))


def _site(
    volume: Array,
    donor: Array,
    centre: np.ndarray,
    radius: float,
    strength: float,
    rng: np.random.Generator,
) -> Site:
    grid = np.stack(np.indices(volume.shape, np.float32))
    offset = grid - centre.astype(np.float32)[:, None, None, None]
    bumps = ndimage.gaussian_filter(rng.standard_normal(volume.shape), radius / 2)
    edge = radius * (1 + 0.15 * bumps / bumps.std())
    distance = np.linalg.norm(offset, axis=0) / edge
    inside = ((1 - distance) / _EDGE).clip(0, 1).astype(np.float32)
    return Site(volume, donor, offset, radius, inside, strength, rng)


def _distance(site: Site) -> Array:
    """From the centre, in radii."""
    return np.linalg.norm(site.offset, axis=0) / site.radius


def _mixed(site: Site, other: Array, share: float = 1.0) -> Array:
    return site.volume + share * site.inside * (other - site.volume)


def _moved(site: Site, step: Float[np.ndarray, "3 X Y Z"]) -> Array:
    """The scan as seen a step further at each voxel."""
    grid = np.stack(np.indices(site.volume.shape, np.float32))
    return ndimage.map_coordinates(site.volume, grid + step, order=1, mode="nearest")
