"""Harmonisation: scans of one site in the style of another, without any pair to learn from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.data.pairs.pair import Pair, Patch


@dataclass(frozen=True)
class Harmonisation:
    """A scan, of which the same channels are wanted as another site would show them.

    What it gives as target is the scan itself: of the style that is wanted there are scans of other
    subjects alone. Half of the patches are mirrored from left to right.

    Attributes:
        channels: of a scan.
    """

    channels: int

    @classmethod
    def of(cls, preprocessing: Preprocessing, conversion: Conversion) -> "Harmonisation":
        """The pairing of a model."""
        return cls(len(preprocessing.channels))

    @property
    def source_channels(self) -> int:
        """All of a scan."""
        return self.channels

    @property
    def target_channels(self) -> int:
        """As many."""
        return self.channels

    @property
    def residual(self) -> bool:
        """Yes: the network begins by changing nothing."""
        return True

    def __call__(
        self, volume: Patch, label: Int[np.ndarray, "X Y Z"] | None, rng: np.random.Generator
    ) -> Pair:
        """A patch as it is, mirrored or not."""
        if rng.random() < 0.5:
            volume = volume[:, ::-1]
        seen = np.isfinite(volume).all(axis=0, keepdims=True)
        source = self.source(volume)
        return Pair(source, source, np.asarray(seen, np.float32))

    def source(self, volume: Patch) -> Float[np.ndarray, "S X Y Z"]:
        """The scan, black where it was not seen."""
        return np.nan_to_num(volume, nan=-1).astype(np.float32)
