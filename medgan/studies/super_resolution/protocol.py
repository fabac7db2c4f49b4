"""Protocol of the super-resolution benchmark: thick slices of fine scans, lesions, and metrics."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.core.volume import AIR
from medgan.data.acquisition import Acquisition
from medgan.data.lesions import STRENGTHS, depth, plant
from medgan.evaluation.resolution import contrast_kept, edge_sharpness, invented
from medgan.evaluation.translation.metrics import psnr, ssim

Image = Float[np.ndarray, "X Y Z"]
Method = Callable[[np.ndarray, Acquisition], np.ndarray]
"""Slices (I, J, K) in [-1, 1] and their acquisition to a fine image (X, Y, Z)."""
LIMITS = (-1.0, 1.0)
RADII = (2.0, 3.0, 4.5)
"""Of planted lesions, in voxels of the fine scan."""
FAMILIES = ("brighter", "darker")
_TRIES = 10
_EDGE = 2
"""Voxels about tissue that count as part of the body."""


class Metrics(NamedTuple):
    """Metrics of one restored scan.

    Attributes:
        psnr: in dB, in the body.
        ssim: in the body, at most 1.
        sharpness: of edges along the thick axis, in that of the fine scan.
        consistency: mean absolute difference of the scan, degraded again, from the slices; of the
            range from -1 to 1.
        contrast: mean share of the contrast of planted lesions that is left.
        lost: share of planted lesions that keep less than half of it.
        invented: changes that look like lesions and that are not there.
        dice: of a segmenter, mean over labels; NaN without labels.
    """

    psnr: float
    ssim: float
    sharpness: float
    consistency: float
    contrast: float
    lost: float
    invented: float
    dice: float


class PlantedLesion(NamedTuple):
    """A lesion of the fine scan.

    Attributes:
        radius: in voxels.
        mask: its voxels.
    """

    radius: float
    mask: Bool[np.ndarray, "X Y Z"]


@dataclass(frozen=True, eq=False)
class Example:
    """A fine scan as thick slices, with and without lesions.

    Attributes:
        truth: the fine scan in [-1, 1].
        lesioned: the same with lesions.
        lesions: of the second.
        axis: along which slices are thick.
        acquisition: of the slices.
        slices, lesioned_slices: what the scanner makes of both, with the same noise.
        region: voxels of the body between the outermost slices.
    """

    truth: Image
    lesioned: Image
    lesions: tuple[PlantedLesion, ...]
    axis: int
    acquisition: Acquisition
    slices: Float[np.ndarray, "I J K"]
    lesioned_slices: Float[np.ndarray, "I J K"]
    region: Bool[np.ndarray, "X Y Z"]

    @classmethod
    def of(cls, truth: Image, number: int, factor: float, gap: float, noise: float) -> "Example":
        """Thick slices of a scan along an axis that goes by its number.

        Args:
            truth: the fine scan in [-1, 1].
            number: of the scan; it decides on axis, lesions and noise.
            factor: distance of slices in voxels.
            gap: share of the distance that lies between slices.
            noise: standard deviation of that of the slices, in [-1, 1].
        """
        axis = number % 3
        lesioned, lesions = with_lesions(truth, np.random.default_rng([0, number]))
        acquisition = Acquisition.simulated(truth.shape, axis, factor, (1 - gap) * factor)
        slices = acquisition.axes[axis]
        assert slices is not None
        added = noise * np.random.default_rng([1, number]).standard_normal(
            acquisition.degrade(truth).shape
        ).astype(np.float32)
        along = np.arange(slices.size)
        between = (along >= slices.first) & (along <= slices.last)
        body = np.asarray(ndimage.binary_dilation(truth > AIR, iterations=_EDGE), bool)
        return cls(
            truth, lesioned, lesions, axis, acquisition, acquisition.degrade(truth) + added,
            acquisition.degrade(lesioned) + added,
            body & between.reshape([-1 if one == axis else 1 for one in range(3)]),
        )  # fmt: skip

    def measure(self, method: Method, dice: Callable[[Image], float]) -> tuple[Metrics, Image]:
        """Metrics of a method, and the image that it makes of the slices without lesions."""
        image = method(self.slices, self.acquisition)
        kept = np.array(
            list(self._contrasts(image, method(self.lesioned_slices, self.acquisition)))
        )
        return Metrics(
            psnr(image, self.truth, self.region, LIMITS[1] - LIMITS[0]),
            ssim(image, self.truth, self.region, LIMITS),
            edge_sharpness(image, self.truth, self.axis, self.region),
            float(np.abs(self.acquisition.degrade(image) - self.slices).mean()),
            float(kept.mean()) if len(kept) else np.nan,
            float((kept < 0.5).mean()) if len(kept) else np.nan,
            invented(image, self.truth, self.region),
            dice(image),
        ), image  # fmt: skip

    def _contrasts(self, healthy: Image, lesioned: Image) -> Iterator[float]:
        change = self.lesioned - self.truth
        for lesion in self.lesions:
            if self.region[lesion.mask].all():
                yield contrast_kept(healthy, lesioned, change, lesion.mask)


def with_lesions(
    volume: Image, rng: np.random.Generator
) -> tuple[Image, tuple[PlantedLesion, ...]]:
    """A scan with bright and dark lesions of every radius that do not touch, where they fit."""
    lesioned, lesions = volume, []
    taken, depths = np.zeros(volume.shape, bool), depth(volume)
    for family in FAMILIES:
        for radius in RADII:
            strength = list(STRENGTHS.values())[int(rng.integers(len(STRENGTHS)))]
            for _ in range(_TRIES):
                try:
                    found = plant(lesioned, volume, family, radius, strength, rng, depths)
                except DataError:  # it fits nowhere
                    break
                if (found.truth & taken).any():
                    continue
                lesioned = found.volume.astype(np.float32)
                lesions.append(PlantedLesion(radius, found.truth))
                taken |= np.asarray(ndimage.binary_dilation(found.truth, iterations=3))
                break
    return lesioned, tuple(lesions)
