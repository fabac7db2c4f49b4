"""The summary of a scored scan as one image, for DICOM secondary captures."""

import textwrap

import numpy as np
from jaxtyping import UInt8

from medgan.core.volume import Volume
from medgan.reporting.slices import (
    INK,
    LEFT_SIDES,
    PAPER,
    ColourScale,
    aspect_of,
    plane,
    plot_slice,
)


def summary_image(
    scan: Volume, heat: Volume | None, level: float, text: str, heading: str
) -> UInt8[np.ndarray, "768 1024 3"]:
    """Three planes through the highest peak, without and with the score map, above a text.

    Args:
        scan: RAS+.
        heat: score map on the same grid, in healthy standard deviations; None: middle slices
            without a map.
        level: lowest shown value of the map.
        text: below the planes; it is wrapped.
        heading: above the planes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shape = scan.data.shape
    at = [n // 2 for n in shape]
    if heat is not None:
        at = [int(n) for n in np.unravel_index(int(np.argmax(heat.data)), shape)]
    low, high = (float(value) for value in np.percentile(scan.data, (0.5, 99.8)))
    figure = Figure(figsize=(10.24, 7.68), dpi=100, facecolor=PAPER)
    figure.text(0.02, 0.965, heading, color="#ffc46b", fontsize=14, va="center", weight="bold")
    for axis in range(3):
        aspect = aspect_of(axis, scan.spacing)
        for row in range(1 if heat is None else 2):
            bottom, tall = (0.2, 0.72) if heat is None else (0.58 - 0.39 * row, 0.36)
            axes = figure.add_axes((0.02 + 0.325 * axis, bottom, 0.31, tall))
            axes.set_axis_off()
            plot_slice(axes, scan.data, axis, at[axis], ColourScale(low, high), aspect=aspect)
            axes.text(
                0.02, 0.5, LEFT_SIDES[axis], transform=axes.transAxes, color=INK, fontsize=11,
                va="center",
            )  # fmt: skip
            if heat is not None and row:
                top = max(2 * level, float(heat.data.max()), level + 1)
                axes.imshow(
                    np.ma.masked_less_equal(plane(heat.data, axis, at[axis]), level),
                    cmap="inferno", vmin=level - 0.25 * (top - level), vmax=top, alpha=0.75,
                    aspect=aspect,
                )  # fmt: skip
    figure.text(
        0.02, 0.16, textwrap.fill(text, 108), color=INK, fontsize=12, va="top", parse_math=False
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
