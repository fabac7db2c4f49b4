"""What is given and what is wanted: the part of an image-to-image training that tasks differ in."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

Patch = Float[np.ndarray, "C X Y Z"]


class Pair(NamedTuple):
    """A source and the target that should be made of it.

    Attributes:
        source: what is given, (S, X, Y, Z) in [-1, 1].
        target: what is wanted, (T, X, Y, Z) in [-1, 1].
        weight: of each voxel, (1, X, Y, Z); 0 where nothing can be learned.
    """

    source: Float[np.ndarray, "S X Y Z"]
    target: Float[np.ndarray, "T X Y Z"]
    weight: Float[np.ndarray, "1 X Y Z"]


@runtime_checkable
class Pairing(Protocol):
    """How pairs are made of scans; a task that makes one image of another has one."""

    @property
    def source_channels(self) -> int:
        """Channels of a source."""
        ...

    @property
    def target_channels(self) -> int:
        """Channels of a target."""
        ...

    @property
    def residual(self) -> bool:
        """Whether a target is like the first channels of its source, which are changed a little."""
        ...

    def __call__(
        self, volume: Patch, label: Int[np.ndarray, "X Y Z"] | None, rng: np.random.Generator
    ) -> Pair:
        """A pair to learn from.

        Args:
            volume: patch of a scan in [-1, 1], channels as `Preprocessing` has them, NaN where a
                channel was not seen.
            label: label map of the patch, where the scan has one.
            rng: source of whatever is random.
        """
        ...

    def source(self, volume: Patch) -> Float[np.ndarray, "S X Y Z"]:
        """The source of a whole new scan, of which there is no target.

        Args:
            volume: the channels that are given, NaN where one was not seen.
        """
        ...
