"""Three planes of a scan with a score map and orientation letters."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.reporting.slices import INK, PAPER, PLANES, aspect_of, grey_scale, plane, plot_slice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDES = (("A", "P", "S", "I"), ("R", "L", "S", "I"), ("R", "L", "A", "P"))
"""Orientation letters at the left, right, top and bottom of each plane."""
_POSITIONS = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03))


def show(
    volume: str | Path | Volume,
    score_map: str | Path | Volume | None = None,
    label_map: str | Path | Volume | None = None,
    at: Sequence[float] | None = None,
    faintest: float = 2.0,
    brightest: float = 8.0,
) -> "Figure":
    """Shows sagittal, coronal and axial slices in radiological orientation.

    Args:
        volume: a scan, stored in any orientation.
        score_map: overlay on the same grid, such as `result.score_map`.
        label_map: contours, on the same grid.
        at: position in world mm (Right, Anterior, Superior); by default the highest voxel of the
            map, or the middle without a map.
        faintest: lowest shown value of the map, in healthy standard deviations.
        brightest: value with the brightest colour.

    Returns:
        A matplotlib figure. Notebooks display it; `savefig` writes it.

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
        figsize=(sum(widths) * inch + 0.8, 2.6 + 0.4), facecolor=PAPER, layout="constrained"
    )
    grey = grey_scale(scan.data)
    panels = figure.subplots(1, 3, width_ratios=widths)
    for axis, axes in enumerate(panels):
        aspect = aspect_of(axis, scan.spacing)
        axes.set_axis_off()
        plot_slice(
            axes, scan.data, axis, cut[axis], grey, aspect=aspect,
            label=None if label is None else np.rint(label.data).astype(int),
        )  # fmt: skip
        if heat is not None:
            overlay = axes.imshow(
                np.ma.masked_less(plane(heat.data, axis, cut[axis]), faintest), cmap="inferno",
                vmin=0, vmax=brightest, alpha=0.75, aspect=aspect,
            )  # fmt: skip
            if axis == 2:
                bar = figure.colorbar(overlay, ax=list(panels), fraction=0.03)
                bar.set_label("healthy standard deviations", color=INK, fontsize=7)
                bar.ax.tick_params(colors=INK, labelsize=7)
        axes.set_title(PLANES[axis], color=INK, fontsize=9)
        for side, (x, y) in zip(_SIDES[axis], _POSITIONS, strict=True):
            axes.text(
                x, y, side, transform=axes.transAxes, color=INK, fontsize=8, ha="center",
                va="center", path_effects=[withStroke(linewidth=2, foreground=PAPER)],
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
    """Registers PNG for figures made without pyplot, which notebooks would not display."""
    if "IPython" in sys.modules:
        from IPython.core.getipython import get_ipython
        from IPython.core.pylabtools import select_figure_formats

        if (shell := get_ipython()) is not None:
            select_figure_formats(shell, {"png"})
