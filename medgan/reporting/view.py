"""A look at a scan: three planes, a score map over them, the sides of the body named."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.reporting.pictures import PLANES, draw_slice, plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDES = (("A", "P", "S", "I"), ("R", "L", "S", "I"), ("R", "L", "A", "P"))
"""What lies on the left, right, top and bottom of each plane."""
_PLACES = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03))
_INK, _PAPER = "#e8e8e8", "#111111"


def show(
    volume: str | Path | Volume,
    score_map: str | Path | Volume | None = None,
    label_map: str | Path | Volume | None = None,
    at: Sequence[float] | None = None,
    faintest: float = 2.0,
    brightest: float = 8.0,
) -> "Figure":
    """Draws sagittal, coronal and axial slices as radiologists look at them.

    Args:
        volume: a scan, stored in any orientation.
        score_map: laid over it, on the same grid, such as `result.score_map`.
        label_map: outlined, on the same grid.
        at: world mm (Right, Anterior, Superior) to cut through; the highest voxel of the map
            unless told, the middle without one.
        faintest: value of the map where its colours begin, in healthy standard deviations.
        brightest: value from which they are brightest.

    Returns:
        A figure of matplotlib, which notebooks display and `savefig` writes.

    Raises:
        DataError: E_LABEL_GRID when a map lies on another grid.
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    scan = _canonical(volume)
    heat, label = (_on_grid_of(scan, over) for over in (score_map, label_map))
    cut = _voxel(scan, heat, at)
    mm = [n * s for n, s in zip(scan.data.shape, scan.spacing, strict=True)]
    inch = 2.6 / max(mm[2], mm[1])
    widths = [mm[1], mm[0], mm[0]]
    figure = Figure(
        figsize=(sum(widths) * inch + 0.8, 2.6 + 0.4), facecolor=_PAPER, layout="constrained"
    )
    low, high = float(scan.data.min()), float(np.percentile(scan.data, 99.8))
    panels = figure.subplots(1, 3, width_ratios=widths)
    for axis, axes in enumerate(panels):
        across, up = (s for number, s in enumerate(scan.spacing) if number != axis)
        axes.set_axis_off()
        draw_slice(
            axes, scan.data, axis, cut[axis], low=low, high=high, aspect=up / across,
            label=None if label is None else np.rint(label.data).astype(int),
        )  # fmt: skip
        if heat is not None:
            overlay = axes.imshow(
                np.ma.masked_less(plane(heat.data, axis, cut[axis]), faintest), cmap="inferno",
                vmin=0, vmax=brightest, alpha=0.75, aspect=up / across,
            )  # fmt: skip
            if axis == 2:
                bar = figure.colorbar(overlay, ax=list(panels), fraction=0.03)
                bar.set_label("healthy standard deviations", color=_INK, fontsize=7)
                bar.ax.tick_params(colors=_INK, labelsize=7)
        axes.set_title(PLANES[axis], color=_INK, fontsize=9)
        for side, (x, y) in zip(_SIDES[axis], _PLACES, strict=True):
            axes.text(
                x, y, side, transform=axes.transAxes, color=_INK, fontsize=8, ha="center",
                va="center", path_effects=[withStroke(linewidth=2, foreground=_PAPER)],
            )  # fmt: skip
    _let_notebooks_display()
    return figure


def _canonical(volume: str | Path | Volume) -> Volume:
    return (volume if isinstance(volume, Volume) else Volume.load(volume)).canonical()


def _on_grid_of(scan: Volume, over: str | Path | Volume | None) -> Volume | None:
    if over is None:
        return None
    found = _canonical(over)
    same = found.data.shape == scan.data.shape
    if not same or not np.allclose(found.affine, scan.affine, atol=1e-3):
        raise DataError(
            "E_LABEL_GRID", "a map", "lies on another grid than the scan", "give one of this scan"
        )
    return found


def _voxel(scan: Volume, heat: Volume | None, at: Sequence[float] | None) -> list[int]:
    shape = scan.data.shape
    if at is not None:
        found = np.rint((np.linalg.inv(scan.affine) @ (*at, 1.0))[:3])
    elif heat is not None:
        found = np.unravel_index(int(np.argmax(heat.data)), shape)
    else:
        found = [n // 2 for n in shape]
    return [int(np.clip(v, 0, n - 1)) for v, n in zip(found, shape, strict=True)]


def _let_notebooks_display() -> None:
    """Notebooks know figures that pyplot made; this one was made without its global state."""
    if "IPython" in sys.modules:
        from IPython.core.getipython import get_ipython
        from IPython.core.pylabtools import select_figure_formats

        if (shell := get_ipython()) is not None:
            select_figure_formats(shell, {"png"})
