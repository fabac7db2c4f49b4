"""Examples of thick slices, of what methods make of them, and of the fine scan."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.reporting.slices import GREY, INK, panels, plot_slice, save_figure


class ResolutionExample(NamedTuple):
    """One scan in several versions on one grid.

    Attributes:
        name: above its slices.
        axis: along which its slices are thick.
        images: (X, Y, Z) in [-1, 1], RAS+, by the name of the version.
    """

    name: str
    axis: int
    images: Mapping[str, np.ndarray]


def plot_resolution(path: Path, examples: Sequence[ResolutionExample]) -> None:
    """Writes a PNG with a slice across the thick ones for each example, a row each."""
    names = list(examples[0].images)
    figure, axes = panels(len(examples), len(names), cell=1.7)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.55 / (1.7 * len(examples) + 0.3), 0.03, 0.16)
    for row, example in enumerate(examples):
        across = 1 if example.axis != 1 else 2  # coronal shows X and Z, axial Y
        for column, name in enumerate(names):
            plot_slice(axes[row, column], example.images[name], across)
        axes[row, 0].set_title(example.name, color=INK, fontsize=7, loc="left", pad=3)
    for column, name in enumerate(names):
        box = axes[0, column].get_position()
        figure.text(
            (box.x0 + box.x1) / 2, 0.995, name, color=GREY, fontsize=8, ha="center", va="top"
        )
    save_figure(figure, path)
