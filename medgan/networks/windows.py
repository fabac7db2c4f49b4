"""CT, seen through several windows at once."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.intensity import IntensityScale


class WindowViews(nn.Module):
    """Lays the views through several windows beside each other, as a radiologist switches them.

    A volume keeps one channel for them, the mean of the windows (`IntensityScale.of_windows`); each
    view is a piecewise linear function of it, found without a loss and with its gradient. So the
    views of a synthetic volume can never contradict each other.

    Args:
        windows: of each image channel, (low, high) in HU; a channel without any is seen as it is.
    """

    def __init__(self, windows: Sequence[Sequence[tuple[float, float]]]) -> None:
        super().__init__()
        self.channels = [_Views(of_channel) if of_channel else None for of_channel in windows]

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X Y Z"]:
        """The views of each image channel in order, then label channels and whatever follows.

        Beyond [-1, 1], where augmentation may lead, the outermost slopes go on.
        """
        seen = []
        for number, views in enumerate(self.channels):
            image = volume[:, number : number + 1]
            seen += [image] if views is None else views.of(image)
        return torch.cat([*seen, volume[:, len(self.channels) :]], dim=1)


class _Views:
    """The views of one channel, as slopes between the knots of its scale."""

    def __init__(self, windows: Sequence[tuple[float, float]]) -> None:
        scale = IntensityScale.of_windows(windows)
        self._knots = scale.values
        reaches = np.diff(scale.values)
        views = [np.interp(scale.intensities, window, (-1.0, 1.0)) for window in windows]
        self._slopes = [(np.diff(view) / reaches).tolist() for view in views]

    def of(self, image: Float[Tensor, "B 1 X Y Z"]) -> list[Tensor]:
        last = len(self._knots) - 2
        steps = [
            (image - low).clamp(
                min=None if place == 0 else 0.0, max=None if place == last else high - low
            )
            for place, (low, high) in enumerate(pairwise(self._knots))
        ]
        views = []
        for slopes in self._slopes:
            rising = [slope * step for slope, step in zip(slopes, steps, strict=True) if slope]
            views.append(sum(rising[1:], rising[0]) - 1)
        return views
