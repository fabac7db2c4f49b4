"""Examples of planted lesions and their score maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.reporting.slices import GREY, INK, panels, plane, plot_slice, save_figure


class LesionExample(NamedTuple):
    """A planted lesion and its score map.

    Attributes:
        name: above its slices.
        volume, recon, heat: (X, Y, Z), RAS+; heat: the score map, in healthy
            standard deviations.
        truth: (X, Y, Z), mask of the lesion.
        level: of the map, above which voxels form regions.
    """

    name: str
    volume: np.ndarray
    recon: np.ndarray
    heat: np.ndarray
    truth: np.ndarray
    level: float


def plot_lesions(path: Path, examples: Sequence[LesionExample]) -> None:
    """Writes a PNG with an axial slice through each lesion, two lesions per row.

    From left to right: scan, reconstruction, map over the scan, contour of the lesion.
    """
    half = (len(examples) + 1) // 2
    figure, axes = panels(half, 8, cell=1.5)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / (1.5 * half + 0.3), 0.03, 0.16)
    for number, example in enumerate(examples):
        row, first = number % half, 4 * (number // half)
        at = int(np.argmax(example.truth.sum(axis=(0, 1))))
        for column, (data, label) in enumerate(
            [(example.volume, None), (example.recon, None), (example.volume, None),
             (example.volume, example.truth.astype(int))]
        ):  # fmt: skip
            plot_slice(axes[row, first + column], data, 2, at, label=label)
        top = max(2 * example.level, float(example.heat.max()))
        axes[row, first + 2].imshow(
            np.ma.masked_less(plane(example.heat, 2, at), 0.5 * example.level),
            cmap="inferno", vmin=0, vmax=top, alpha=0.75,
        )  # fmt: skip
        axes[row, first].set_title(example.name, color=INK, fontsize=7, loc="left", pad=3)
    for first in (0, 4):
        for column, name in enumerate(("scan", "reconstruction", "map", "lesion")):
            box = axes[0, first + column].get_position()
            figure.text(
                (box.x0 + box.x1) / 2, 0.995, name, color=GREY, fontsize=8, ha="center",
                va="top",
            )  # fmt: skip
    save_figure(figure, path)
