"""Super-resolution: the fine scan is made of thick slices, brought onto its grid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.data.acquisition import Acquisition, Slices
from medgan.data.pairs.pair import Pair, Patch

FACTORS = (1.5, 6.5)
"""Least and greatest distance of simulated slices, in voxels; their logarithm is uniform."""
_TOUCHING = 0.5
"""Share of simulated scans without gaps."""
_THINNEST = 0.5
"""Least thickness of slices with gaps, in their distance."""
_NOISE = 0.03
"""Largest standard deviation of the noise of simulated slices, in [-1, 1]."""
_FARTHEST = 3.5
"""Distance from the nearest slice, in voxels, that a network sees as 1."""


@dataclass(frozen=True)
class SuperResolution:
    """Thick slices of a fine patch: of random distance, thickness, axis, place and noise.

    Patches are mirrored along random axes. A source tells where it was sampled: channels are
    followed by the distance of each voxel from the nearest slice, along each axis.

    Attributes:
        channels: of a scan.
    """

    channels: int

    @classmethod
    def of(cls, preprocessing: Preprocessing, conversion: Conversion) -> "SuperResolution":
        """The pairing of a model, which restores all channels."""
        return cls(len(preprocessing.channels))

    @property
    def source_channels(self) -> int:
        """Images, and three distances."""
        return self.channels + 3

    @property
    def target_channels(self) -> int:
        """Images."""
        return self.channels

    @property
    def residual(self) -> bool:
        """Yes: what slices alone give is changed."""
        return True

    def __call__(
        self, volume: Patch, label: Int[np.ndarray, "X Y Z"] | None, rng: np.random.Generator
    ) -> Pair:
        """A pair to learn from."""
        for axis in (1, 2, 3):
            if rng.random() < 0.5:
                volume = np.flip(volume, axis)
        seen = np.isfinite(volume).all(axis=0)
        target = np.where(seen, volume, -1).astype(np.float32)
        axis = int(rng.integers(3))
        slices = _drawn(target.shape[1 + axis], rng)
        acquisition = Acquisition.along(axis, slices)
        coarse = acquisition.degrade(target)
        coarse += rng.uniform(0, _NOISE) * rng.standard_normal(coarse.shape).astype(np.float32)
        start = acquisition.deconvolved(coarse).clip(-1, 1)
        # beyond the outermost slices nothing was sampled
        inside = (np.arange(slices.size) >= slices.first) & (np.arange(slices.size) <= slices.last)
        along = inside.reshape([-1 if one == axis else 1 for one in range(3)])
        weight = (seen & along)[None].astype(np.float32)
        return Pair(self.source(start, acquisition), target, weight)

    def source(
        self, volume: Patch, acquisition: Acquisition | None = None
    ) -> Float[np.ndarray, "S X Y Z"]:
        """Slices on the fine grid and where they lay; without an acquisition every voxel is one."""
        images = np.nan_to_num(volume, nan=-1)
        acquisition = acquisition or Acquisition((None, None, None))
        away = acquisition.offsets(images.shape[1:]) / _FARTHEST
        return np.concatenate([images, away.clip(-1, 1)]).astype(np.float32)


def _drawn(size: int, rng: np.random.Generator) -> Slices:
    """Random slices that lie in a patch as a whole."""
    distance = float(np.exp(rng.uniform(*np.log(FACTORS))))
    touching = rng.random() < _TOUCHING
    thickness = distance * (1.0 if touching else rng.uniform(_THINNEST, 1))
    return Slices.within(size, distance, thickness).moved(rng.uniform(-0.5, 0.5))
