"""What lesions look like, learned from a few labelled scans of patients.

Each lesion is kept with a rim of what is around it, so that it can be pasted elsewhere; its
profile from the rim to the middle and its texture can be drawn into any other mask. Volumes have
axes Right, Anterior, Superior and are in [-1, 1].
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.core.volume import AIR, bounds

Array = Float[np.ndarray, "X Y Z"]
Box = tuple[slice, slice, slice]
Mask = Bool[np.ndarray, "X Y Z"]
_FEWEST = 10
"""Voxels of the smallest lesion that is learned from."""
_DEPTHS = np.linspace(0, 1, 6)
"""Depths inside a lesion, as shares of its deepest, at which its profile is known."""
_COARSE = 2.0
"""Voxels above which a pattern inside a lesion is its shape, not its texture."""
SIZES = 0.8, 1.25
"""Factors of size between which a lesion is pasted."""
_NEAREST = 3
"""Examples of about the size of a mask among which one is drawn."""


class LabelledScan(NamedTuple):
    """A scan of a patient.

    Attributes:
        volume: in [-1, 1].
        mask: its lesions.
        spacing: in mm.
        name: its pseudonym.
    """

    volume: Array
    mask: Mask
    spacing: Sequence[float]
    name: str = ""


@dataclass(frozen=True)
class LesionExample:
    """One lesion of a patient.

    Attributes:
        values: in [-1, 1], of the box around lesion and rim.
        mask: the lesion.
        spacing: in mm.
        centre: of the box, as shares of the patient's tissue.
        surround: median of what is around the rim.
        margin: width of the rim in mm.
        source: pseudonym of the scan.
    """

    values: Array
    mask: Mask
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]
    surround: float
    margin: float
    source: str = ""

    @property
    def mm3(self) -> float:
        """Volume of the lesion."""
        return float(self.mask.sum()) * math.prod(self.spacing)

    @cached_property
    def profile(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean values at `_DEPTHS` inside the lesion, and at 0, 1/3, 2/3 and 1 margin outside."""
        inside, outside = depths(self.mask, self.spacing)
        within = _means(inside[self.mask], self.values[self.mask], _DEPTHS)
        rim = ~self.mask & (outside <= self.margin)
        steps = np.linspace(0, 1, 4)
        beyond = _means(outside[rim] / self.margin, self.values[rim], steps)
        return within, beyond

    @cached_property
    def texture(self) -> tuple[float, float]:
        """Spread and smoothness of the fine texture inside, profile and coarse parts taken off.

        Smoothness is the standard deviation in mm of the Gaussian that would correlate white noise
        from voxel to voxel as these values are.
        """
        inside, _ = depths(self.mask, self.spacing)
        left = (self.values - np.interp(inside, _DEPTHS, self.profile[0])) * self.mask
        share = ndimage.gaussian_filter(self.mask.astype(np.float32), _COARSE)
        level = ndimage.gaussian_filter(left, _COARSE) / np.maximum(share, 1e-6)
        left = (left - level) * self.mask
        variance = float((left[self.mask] ** 2).mean())
        pairs = self.mask[:-1] & self.mask[1:]
        if variance == 0 or not pairs.any():
            return 0.0, 0.0
        alike = float((left[:-1] * left[1:])[pairs].mean()) / variance
        smooth = math.sqrt(-1 / (4 * math.log(alike))) if 0 < alike < 1 else 0.0
        return math.sqrt(variance), smooth * self.spacing[0]

    def varied(
        self,
        spacing: Sequence[float],
        rng: np.random.Generator,
        sizes: tuple[float, float] = SIZES,
    ) -> tuple[Array, Mask]:
        """Values and mask at another spacing, mirrored and resized at random."""
        size = rng.uniform(*sizes)
        factors = [own / other * size for own, other in zip(self.spacing, spacing, strict=True)]
        flips = tuple(slice(None, None, int(step)) for step in rng.choice((-1, 1), 3))
        values, mask = (
            np.asarray(ndimage.zoom(part, factors, order=1, mode="nearest", grid_mode=True))
            for part in (self.values[flips], self.mask[flips].astype(np.float32))
        )
        return values.astype(np.float32), mask > 0.5

    def inside(self, mask: Mask, spacing: Sequence[float], rng: np.random.Generator) -> Array:
        """The lesion's profile and texture in another mask and around it."""
        deep, outside = depths(mask, spacing)
        within, beyond = self.profile
        spread, smooth = self.texture
        noise = rng.standard_normal(mask.shape)
        noise = ndimage.gaussian_filter(noise, [smooth / s for s in spacing])
        drawn = np.interp(deep, _DEPTHS, within) + spread * noise / max(noise.std(), 1e-6)
        rim = np.interp(outside / self.margin, np.linspace(0, 1, 4), beyond)
        return np.where(mask, drawn, rim).astype(np.float32)


@dataclass(frozen=True)
class LesionBank:
    """Lesions of a few patients, in memory; they are patients' data.

    Attributes:
        examples: the lesions.
        relative: whether values are those above the surround of a lesion, as of MRI, which has no
            unit; or as they are, as in HU.
    """

    examples: tuple[LesionExample, ...]
    relative: bool

    @classmethod
    def learn(
        cls,
        scans: Iterable[LabelledScan],
        relative: bool = True,
        margin: float = 3.0,
    ) -> "LesionBank":
        """Cuts every connected lesion out of labelled scans.

        Args:
            scans: with masks of their lesions.
            relative: see the class.
            margin: width of the rim that is kept around each lesion, in mm.

        Raises:
            DataError: E_LESION where no scan has a lesion of ten voxels.
        """
        found = tuple(one for scan in scans for one in _lesions(scan, margin))
        if not found:
            raise DataError(
                "E_LESION", f"no lesion of {_FEWEST} voxels", "in the labelled scans",
                "give scans of patients with masks of their lesions",
            )  # fmt: skip
        return cls(found, relative)

    def draw(self, rng: np.random.Generator) -> LesionExample:
        """Any of the lesions."""
        return self.examples[int(rng.integers(len(self.examples)))]

    def of_size(self, mm3: float, rng: np.random.Generator) -> LesionExample:
        """One of the three whose volume is nearest to that of a mask."""
        ranked = sorted(self.examples, key=lambda one: abs(math.log(one.mm3 / mm3)))
        return ranked[int(rng.integers(min(_NEAREST, len(ranked))))]


def depths(mask: Mask, spacing: Sequence[float]) -> tuple[Array, Array]:
    """How deep each voxel lies in a mask, as a share of the deepest, and how far from it in mm."""
    inside = np.asarray(ndimage.distance_transform_edt(mask, spacing))
    outside = np.asarray(ndimage.distance_transform_edt(~mask, spacing))
    return (inside / max(inside.max(), 1e-6)).astype(np.float32), outside.astype(np.float32)


def surround_of(volume: Array, mask: Mask, spacing: Sequence[float], margin: float) -> float:
    """Median of the tissue around a mask, from one margin to two away; of all where there is none.

    Args:
        volume: in [-1, 1].
        mask: of a lesion.
        spacing: in mm.
        margin: in mm.
    """
    _, outside = depths(mask, spacing)
    shell = (outside > margin) & (outside <= 2 * margin) & (volume > AIR)
    return float(np.median(volume[shell] if shell.any() else volume))


def _lesions(scan: LabelledScan, margin: float) -> list[LesionExample]:
    volume, mask, spacing, name = scan
    labelled, count = ndimage.label(mask, np.ones((3, 3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
    whole = bounds(volume > AIR)
    low = np.array([side.start for side in whole])
    extent = np.maximum([side.stop - side.start for side in whole], 1)
    found = []
    for number in range(1, count + 1):
        own = labelled == number
        if own.sum() < _FEWEST:
            continue
        near = widened(bounds(own), spacing, 2 * margin, volume.shape)
        surround = surround_of(volume[near], mask[near], spacing, margin)
        box = widened(bounds(own), spacing, margin, volume.shape)
        middle = np.array([(side.start + side.stop) / 2 for side in box])
        x, y, z = ((middle - low) / extent).tolist()
        a, b, c = (float(s) for s in spacing)
        found.append(
            LesionExample(
                volume[box].copy(), own[box], (a, b, c), (x, y, z), surround, margin, name
            )
        )
    return found


def widened(
    box: Box,
    spacing: Sequence[float],
    margin: float,
    shape: Sequence[int],
) -> Box:
    """A box wider by a margin in mm on each side, as far as the volume goes."""
    x, y, z = (
        slice(max(0, side.start - n), min(size, side.stop + n))
        for side, size, n in zip(box, shape, (math.ceil(margin / s) for s in spacing), strict=True)
    )
    return x, y, z


def _means(at: np.ndarray, values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Means of values near each step, interpolated where there are none."""
    nearest = np.abs(at[:, None] - steps).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(steps))
    sums = np.bincount(nearest, values, minlength=len(steps))
    known = counts > 0
    if not known.any():
        return np.zeros(len(steps))
    return np.interp(steps, steps[known], sums[known] / counts[known])
