"""Volumes side by side as one PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.reporting.slices import (
    GREY,
    INK,
    LEFT_SIDES,
    PAPER,
    PLANES,
    ColourScale,
    aspect_of,
    plot_slice,
    save_figure,
)  # fmt: skip


class Column(NamedTuple):
    """A volume among several side by side.

    Attributes:
        name: one or two lines above it.
        data: shape (X, Y, Z), RAS+.
        scale: how its intensities are shown.
        label: label map shown as contours.
    """

    name: str
    data: np.ndarray
    scale: ColourScale
    label: np.ndarray | None = None


def side_by_side(
    path: Path,
    columns: Sequence[Column],
    spacing: tuple[float, float, float],
    title: str = "",
    at: tuple[int, int, int] | None = None,
) -> None:
    """Writes a PNG with three planes of each volume, one column per volume, at true proportions.

    Args:
        path: the PNG.
        columns: volumes on one grid, from left to right.
        spacing: mm along the three axes.
        title: a line above.
        at: slice along each axis; the middle slices by default.
    """
    from matplotlib.figure import Figure

    shape = columns[0].data.shape
    mm = [n * s for n, s in zip(shape, spacing, strict=True)]
    inch = 1.75 / max(mm[0], mm[1])  # a column is as wide as the widest plane
    heights = [mm[2] * inch, mm[2] * inch, mm[1] * inch]
    left, top, gap = 0.7, 0.75 if title else 0.45, 0.04
    width = max(left + (1.75 + gap) * len(columns), 5.0)
    height = top + sum(heights) + 4 * gap
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    if title:
        figure.text(0.5, 1 - 0.18 / height, title, color=INK, fontsize=9, ha="center", va="center")
    across = (width - left) / len(columns)
    for row, (axis, tall) in enumerate(zip(range(3), heights, strict=True)):
        bottom = height - top - sum(heights[: row + 1]) - gap * row
        for number, column in enumerate(columns):
            x, w = (left + across * number) / width, (across - gap) / width
            axes = figure.add_axes((x, bottom / height, w, tall / height))
            axes.set_axis_off()
            plot_slice(
                axes, column.data, axis, at[axis] if at else None, column.scale,
                label=column.label, aspect=aspect_of(axis, spacing), interpolation="bilinear",
            )  # fmt: skip
            if row == 0:
                axes.set_title(column.name, color=INK, fontsize=8, pad=4)
            if number == 0:
                figure.text(
                    0.12 / width, (bottom + tall / 2) / height, PLANES[axis], rotation=90,
                    color=INK, fontsize=8, ha="left", va="center",
                )  # fmt: skip
                figure.text(
                    0.45 / width, (bottom + tall / 2) / height, LEFT_SIDES[axis], color=GREY,
                    fontsize=7, ha="left", va="center",
                )  # fmt: skip
    save_figure(figure, path)
