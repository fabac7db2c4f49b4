"""The page of an evaluation: synthetic scans beside real scans, in metrics and slices."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medgan.reporting.slices import (
    INK,
    LABEL_COLOURS,
    PANEL,
    PAPER,
    PLANES,
    aspect_of,
    figure_png,
    plot_slice,
)
from medgan.reporting.template import data_uri, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REAL, _SYNTHETIC = "#c9c9c9", LABEL_COLOURS[0]
_COLUMNS = 6
_MOST = 9
"""Most structures whose volumes are plotted."""
_SIDES = (("real", _REAL), ("synthetic", _SYNTHETIC))
_BETTER = {"small": "lower", "large": "higher", "as real": "like real"}


class Shown(NamedTuple):
    """Volumes to show slices of.

    Attributes:
        real: shape (N, X, Y, Z) in [-1, 1], RAS+.
        synthetic: shape (M, X, Y, Z), likewise.
        spacing: mm along the three axes.
    """

    real: np.ndarray
    synthetic: np.ndarray
    spacing: tuple[float, float, float]


def evaluation_page(result: dict[str, Any], shown: Shown) -> str:
    """The page as text, self-contained.

    Args:
        result: content of evaluation.json.
        shown: scans of both sets; the first few are shown, without names.
    """
    curves, rows = result["curves"], result["rows"]
    values = {
        "protocol": result["protocol"],
        "grid": _grid_text(result["protocol"]["grid"]),
        "rows": [row | {"better_word": _BETTER[row["better"]]} for row in rows],
        "outside": sum(not row["inside"] for row in rows),
        "left_out": result["left_out"],
        "slices": _slices(shown),
        "spectrum": _chart(1, lambda axes: _spectrum(axes[0], curves), (6.4, 3.6)),
        "histogram": _chart(1, lambda axes: _histogram(axes[0], curves), (6.4, 3.6)),
        "frechet": _chart(1, lambda axes: _frechet(axes[0], curves["frechet"]), (6.4, 3.6)),
        "volumes": _chart(
            min(len(curves["structures"]), _MOST), lambda axes: _volumes(axes, curves), (6.4, 3.6)
        ),
        "more_structures": max(0, len(curves["structures"]) - _MOST),
    }  # fmt: skip
    return render("evaluation.html.j2", **values)


def _grid_text(grid: dict[str, Any]) -> str:
    shape = " x ".join(str(n) for n in grid["shape"])
    spacing = " x ".join(f"{s:g}" for s in grid["spacing"])
    return f"{shape} voxels of {spacing} mm"


def _slices(shown: Shown) -> str:
    """Three planes, real scans on the left, synthetic scans on the right."""
    from matplotlib.figure import Figure

    count = min(_COLUMNS, len(shown.real), len(shown.synthetic))
    mm = [n * s for n, s in zip(shown.real.shape[1:], shown.spacing, strict=True)]
    cell, left, top, middle = 0.95, 0.35, 0.35, 0.25
    inch = cell / max(mm[0], mm[1])
    heights = [mm[2] * inch, mm[2] * inch, mm[1] * inch]
    width, height = left + 2 * count * cell + middle, top + sum(heights) + 0.08
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    for side, (volumes, (name, colour)) in enumerate(
        zip((shown.real, shown.synthetic), _SIDES, strict=True)
    ):
        start = left + side * (count * cell + middle)
        figure.text(
            (start + count * cell / 2) / width, 1 - 0.17 / height, name, color=colour, fontsize=11,
            ha="center", va="center",
        )  # fmt: skip
        for row, axis in enumerate(range(3)):
            bottom = height - top - sum(heights[: row + 1])
            for column in range(count):
                x = start + column * cell
                axes = figure.add_axes(
                    (x / width, bottom / height, 0.97 * cell / width, 0.97 * heights[row] / height)
                )
                axes.set_axis_off()
                plot_slice(
                    axes,
                    volumes[column],
                    axis,
                    aspect=aspect_of(axis, shown.spacing),
                    interpolation="bilinear",
                )
            if not side:
                figure.text(
                    0.16 / width, (bottom + heights[row] / 2) / height, PLANES[axis], rotation=90,
                    color=INK, fontsize=7, ha="center", va="center",
                )  # fmt: skip
    return data_uri(figure_png(figure))


def _spectrum(axes: "Axes", curves: dict[str, Any]) -> None:
    x = curves["frequencies"]
    for name, colour in _SIDES:
        found = curves[name]["spectrum"]
        axes.fill_between(x, found["low"], found["high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, found["mean"], color=colour, linewidth=1.6, label=name)
    axes.set_xlabel("cycles per mm")
    axes.set_ylabel("mean power, dB")


def _histogram(axes: "Axes", curves: dict[str, Any]) -> None:
    bins = len(curves["real"]["histogram"]["mean"])
    x = (np.arange(bins) + 0.5) * 2 / bins - 1
    for name, colour in _SIDES:
        found = curves[name]["histogram"]
        axes.fill_between(x, found["low"], found["high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, found["mean"], color=colour, linewidth=1.6, label=name)
    axes.set_yscale("log")  # air would hide the other intensities
    axes.set_ylim(bottom=1e-3)
    axes.set_xlabel("intensity inside the networks, from -1 to 1")
    axes.set_ylabel("share of voxels")


def _frechet(axes: "Axes", curves: dict[str, Any]) -> None:
    for name, colour in _SIDES:
        found = curves[name]
        inverse = 1 / np.array(found["sizes"])
        axes.plot(inverse, found["values"], "o", color=colour, ms=4, label=name)
        slope = (np.mean(found["values"]) - found["at_infinity"]) / inverse.mean()
        x = np.array([0, inverse.max()])
        axes.plot(x, found["at_infinity"] + slope * x, color=colour, linewidth=1.2)
        axes.plot(0, found["at_infinity"], "s", color=colour, ms=6, clip_on=False)
    axes.axhline(0, color="#666666", linewidth=0.8, linestyle=":")
    axes.set_xlim(left=0)
    axes.set_xlabel("1 / scans in each set; squares: infinitely many")
    axes.set_ylabel("Fréchet distance")


def _volumes(panels: "np.ndarray", curves: dict[str, Any]) -> None:
    for number, (axes, name) in enumerate(zip(panels, curves["structures"], strict=False)):
        for side, colour in _SIDES:
            volumes = curves[side]["volumes"][number]
            shares = np.linspace(0, 100, len(volumes))
            axes.plot(volumes, shares, color=colour, linewidth=1.6, label=side)
        axes.set_title(name, color=INK, fontsize=9)
        axes.ticklabel_format(style="sci", scilimits=(-3, 4))
        axes.set_xlabel("mm³")
    panels[0].set_ylabel("% of scans with less")


def _chart(panels: int, plot: "Callable[[np.ndarray], None]", size: tuple[float, float]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    rows = -(-panels // 3)
    axes = figure.subplots(rows, -(-panels // rows), squeeze=False).ravel()[:panels]
    plot(axes)
    for ax in axes:
        ax.set_facecolor(PANEL)
        ax.tick_params(colors=INK, labelsize=9)
        ax.xaxis.label.set(color=INK, fontsize=10)
        ax.yaxis.label.set(color=INK, fontsize=10)
    axes[0].legend(fontsize=9, labelcolor=INK, facecolor=PANEL, edgecolor="#444444")
    return data_uri(figure_png(figure))
