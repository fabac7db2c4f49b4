"""Translated images of patients beside the real ones, from worst to best."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.reporting.slices import (
    GREY,
    INK,
    ColourScale,
    panels,
    plot_slice,
    save_figure,
)  # fmt: skip


class Panel(NamedTuple):
    """One axial slice.

    Attributes:
        name: above the column.
        data: (X, Y), axes Right and Anterior.
        scale: its colours.
    """

    name: str
    data: np.ndarray
    scale: ColourScale


class TranslationExample(NamedTuple):
    """An axial slice of a patient.

    Attributes:
        name: above the slice.
        slices: the same columns for every patient.
        tumour: (X, Y), outlined in the first two columns; None without a mask.
        aspect: height of a voxel over its width.
    """

    name: str
    slices: Sequence[Panel]
    tumour: np.ndarray | None
    aspect: float


def plot_translations(path: Path, examples: Sequence[TranslationExample]) -> None:
    """Writes a PNG with a row a patient.

    Args:
        path: the PNG.
        examples: from the worst to the best, at least one.
    """
    figure, axes = panels(len(examples), len(examples[0].slices), cell=1.9)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / (1.9 * len(examples) + 0.3), 0.03, 0.14)
    for line, example in enumerate(examples):
        outline = None if example.tumour is None else example.tumour[:, :, None].astype(int)
        for column, one in enumerate(example.slices):
            plot_slice(
                axes[line, column], one.data[:, :, None], 2, 0, one.scale,
                label=outline if column < 2 else None, aspect=example.aspect,
            )  # fmt: skip
        axes[line, 0].set_title(example.name, color=INK, fontsize=7, loc="left", pad=3)
    for column, one in enumerate(examples[0].slices):
        box = axes[0, column].get_position()
        figure.text(
            (box.x0 + box.x1) / 2, 0.997, one.name, color=GREY, fontsize=8, ha="center", va="top"
        )
    save_figure(figure, path)
