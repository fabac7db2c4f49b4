"""Mask to image: a scan is made of its label map, of a rough outline, or of a blurred scan."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError
from medgan.data.codebook import channels
from medgan.data.labels import soft_codes
from medgan.data.pairs.pair import Pair, Patch

_ROUGH = (0.5, 3.0)
"""Standard deviation, in voxels, of the blur of rough outlines."""
_BLURRED = (1.0, 4.0)
"""Of the blur of scans that are given."""
_EXACT = 0.5
"""Share of label maps that are given as they are."""
_LABEL, _BOTH = 0.6, 0.2
"""Share of patches of which the label map alone is given, and of which both are."""


@dataclass(frozen=True)
class MaskToImage:
    """A labelled patch from its label map, from a blurred patch, or from both.

    A source has the soft channels of the label map, the blurred scan, and for each whether it is
    given: 1 or -1. A rough outline is a blurred label map: how soft it is says how rough it is.

    Attributes:
        labels: label values.
        images: image channels of a scan.
    """

    labels: tuple[int, ...]
    images: int

    @classmethod
    def of(cls, preprocessing: Preprocessing, conversion: Conversion) -> "MaskToImage":
        """The pairing of a model.

        Raises:
            ConfigError: E_LABEL when scans have no labels.
        """
        if not preprocessing.labels:
            raise ConfigError(
                "E_LABEL", "data.labels", "is empty: there is no label map to make a scan of",
                "give label maps with the scans, and data.labels=auto",
            )  # fmt: skip
        return cls(preprocessing.labels, len(preprocessing.channels))

    @property
    def source_channels(self) -> int:
        """Label channels, images, and whether each is given."""
        return channels(self.labels) + self.images + 2

    @property
    def target_channels(self) -> int:
        """Images."""
        return self.images

    @property
    def residual(self) -> bool:
        """No: nothing of a label map is part of a scan."""
        return False

    def __call__(
        self, volume: Patch, label: Int[np.ndarray, "X Y Z"] | None, rng: np.random.Generator
    ) -> Pair:
        """A pair to learn from; beyond the scan nothing is learned."""
        seen = np.isfinite(volume).all(axis=0)
        target = np.where(seen, volume, -1).astype(np.float32)
        drawn = rng.random()
        outline = blurred = None
        if label is not None and drawn < _LABEL + _BOTH:
            rough = 0.0 if rng.random() < _EXACT else rng.uniform(*_ROUGH)
            outline = self.outline(label, rough)
        if outline is None or drawn >= _LABEL:
            sigma = rng.uniform(*_BLURRED)
            blurred = np.stack([ndimage.gaussian_filter(one, sigma) for one in target])
        return Pair(self.given(outline, blurred), target, np.asarray(seen, np.float32)[None])

    def outline(
        self, label: Int[np.ndarray, "X Y Z"], rough: float
    ) -> Float[np.ndarray, "D X Y Z"]:
        """The channels of a label map.

        Args:
            label: label values.
            rough: how far its outline may be off, as a standard deviation in voxels; 0 is exact.
        """
        soft = soft_codes(label, self.labels).astype(np.float32) / 32 - 1
        if rough > 0:
            soft = np.stack([ndimage.gaussian_filter(one, rough) for one in soft])
        return soft

    def given(
        self,
        outline: Float[np.ndarray, "D X Y Z"] | None,
        blurred: Float[np.ndarray, "C X Y Z"] | None,
    ) -> Float[np.ndarray, "S X Y Z"]:
        """A source of what is given, one of the two or both."""
        known = next(one for one in (outline, blurred) if one is not None)
        parts, flags = [], []
        for one, count in ((outline, channels(self.labels)), (blurred, self.images)):
            absent = np.full((count, *known.shape[1:]), -1.0)
            parts.append(absent if one is None else one)
            flags.append(np.full((1, *known.shape[1:]), -1.0 if one is None else 1.0))
        return np.concatenate([*parts, *flags]).astype(np.float32)

    def source(self, volume: Patch) -> Float[np.ndarray, "S X Y Z"]:
        """The source of a blurred scan alone."""
        return self.given(None, np.nan_to_num(volume, nan=-1))
