"""Scanner intensities on the scale from -1 to 1 that networks see, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class IntensityScale:
    """A rising map of a scanner's intensities onto [-1, 1], linear between its knots.

    Values beyond the first and last knot are clipped.

    Attributes:
        intensities: the scanner's, at the knots, rising.
        values: at the knots, rising from -1 to 1.
    """

    intensities: tuple[float, ...]
    values: tuple[float, ...] = (-1.0, 1.0)

    @classmethod
    def of_windows(cls, windows: Sequence[tuple[float, float]]) -> "IntensityScale":
        """The mean of several CT windows, each of which goes from -1 to 1.

        As all windows rise together, a mean absolute difference on this scale is the mean of
        those in the windows: one channel holds all that several would. Back in HU it is exact.

        Args:
            windows: (low, high) in HU; together without a gap.
        """
        knots = sorted({end for window in windows for end in window})
        shown = [np.interp(knots, window, (-1.0, 1.0)) for window in windows]
        return cls(tuple(knots), tuple(np.mean(shown, axis=0).tolist()))

    def __call__(self, intensities: Tensor) -> Tensor:
        """Intensities of any shape to values in [-1, 1]."""
        pieces = zip(pairwise(self.intensities), pairwise(self.values), strict=True)
        ramps = [
            (above - below) / (high - low) * (intensities - low).clamp(0, high - low)
            for (low, high), (below, above) in pieces
        ]
        return (sum(ramps[1:], ramps[0]) - 1).clamp(-1, 1)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape to the scanner's intensities, float32."""
        return np.interp(values, self.values, self.intensities).astype(np.float32)

    def stretched(self, gain: float, offset: float) -> "IntensityScale":
        """The scale on which this one's value v is `gain * v + offset`; for linear scales.

        Raises:
            ValueError: for a scale of several windows: a gain means nothing there.
        """
        if len(self.values) != 2:
            raise ValueError("only a linear scale can be stretched")
        low, high = self.intensities
        ends = [low + ((end - offset) / gain + 1) / 2 * (high - low) for end in (-1, 1)]
        return IntensityScale((ends[0], ends[1]))
