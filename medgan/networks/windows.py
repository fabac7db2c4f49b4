"""One channel of CT, seen through several windows at once."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.intensity import IntensityScale


class WindowViews(nn.Module):
    """Lays the views through several windows beside each other, as a radiologist switches them.

    Volumes keep one channel, the mean of the windows (`IntensityScale.of_windows`); each view is
    a piecewise linear function of it, found without a loss and with its gradient. So the views
    of a synthetic volume can never contradict each other.

    Args:
        windows: (low, high) in HU, two or more.
    """

    def __init__(self, windows: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        scale = IntensityScale.of_windows(windows)
        self.knots = scale.values
        reaches = np.diff(scale.values)
        views = [np.interp(scale.intensities, window, (-1.0, 1.0)) for window in windows]
        self.slopes = [(np.diff(view) / reaches).tolist() for view in views]

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X Y Z"]:
        """(B, 1 + K, X, Y, Z) to (B, V + K, X, Y, Z): V views of the first channel, then the rest.

        Beyond [-1, 1], where augmentation may lead, the outermost slopes go on.
        """
        image, others = volume[:, :1], volume[:, 1:]
        last = len(self.knots) - 2
        steps = [
            (image - low).clamp(
                min=None if place == 0 else 0.0, max=None if place == last else high - low
            )
            for place, (low, high) in enumerate(pairwise(self.knots))
        ]
        views = []
        for slopes in self.slopes:
            rising = [slope * step for slope, step in zip(slopes, steps, strict=True) if slope]
            views.append(sum(rising[1:], rising[0]) - 1)
        return torch.cat([*views, others], dim=1)
