"""Pictures of volumes: arrays in, PNG out."""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import UInt8

from medgan.core.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_SMOOTH = "bilinear"
PLANES = ("sagittal", "coronal", "axial")
LABEL_COLOURS = ("#4cc9f0", "#f9c74f", "#f94144", "#90be6d", "#b388eb", "#ff8fab")
_LEFT = ("A", "R", "R")
"""What lies on the left of each plane's slices: anterior, the patient's right."""
DIFFERENCE = ("#7fd4ff", "#2b6fb3", "#000000", "#b8432f", "#ffc46b")
"""From lower over no difference, black as the background of a scan, to higher."""
_INK, _PAPER = "#e8e8e8", "#111111"


def plane(data: np.ndarray, axis: int, position: int) -> np.ndarray:
    """One slice of an RAS+ array as a radiologist looks at it, row 0 at the top.

    Args:
        data: shape (X, Y, Z).
        axis: 0 sagittal, 1 coronal, 2 axial; anterior faces left in sagittal slices and the
            patient's right lies on the left in the others.
        position: index along the axis.
    """
    slices = np.take(data, position, axis=axis).T[::-1]
    return slices[:, ::-1]


def sample_grid(
    path: Path,
    fakes: np.ndarray,
    volumes: np.ndarray,
    recons: np.ndarray,
    labels: Sequence[np.ndarray] = (),
    title: str = "",
) -> None:
    """Writes samples with label contours above scans, their reconstructions and residuals.

    Args:
        path: the PNG.
        fakes: shape (N, X, Y, Z) in [-1, 1].
        volumes: shape (M, X, Y, Z) in [-1, 1].
        recons: shape (M, X, Y, Z) in [-1, 1].
        labels: N label maps (X, Y, Z) of the fakes, or none.
        title: a line above.
    """
    columns = max(len(fakes), len(volumes))
    maps: list[np.ndarray | None] = list(labels) or [None] * len(fakes)
    residuals = np.abs(volumes - recons)
    figure, axes = _canvas(3 + 3, columns, fakes.shape[1:], title)
    for column in range(len(fakes)):
        for axis in range(3):
            draw_slice(
                axes[axis, column], fakes[column], axis, label=maps[column], interpolation=_SMOOTH
            )
    for column in range(len(volumes)):
        draw_slice(axes[3, column], volumes[column], 2, interpolation=_SMOOTH)
        draw_slice(axes[4, column], recons[column], 2, interpolation=_SMOOTH)
        draw_slice(axes[5, column], residuals[column], 2, low=0.0, high=0.6, colours="inferno")
    names = [f"sample\n{p}" for p in PLANES] + ["real", "recon-\nstruction", "residual"]
    for row, name in enumerate(names):
        axes[row, 0].text(
            -0.08, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center",
            color=_INK, fontsize=8,
        )  # fmt: skip
    _write(figure, path)


class Column(NamedTuple):
    """A volume in a picture of several side by side.

    Attributes:
        name: above it, in one or two lines.
        data: shape (X, Y, Z), RAS+.
        low, high: intensities that are darkest and brightest.
        colours: matplotlib's name of the scale, or `DIFFERENCE`.
        label: label map to outline.
    """

    name: str
    data: np.ndarray
    low: float
    high: float
    colours: str | tuple[str, ...] = "gray"
    label: np.ndarray | None = None


def side_by_side(
    path: Path,
    columns: Sequence[Column],
    spacing: tuple[float, float, float],
    title: str = "",
    at: tuple[int, int, int] | None = None,
) -> None:
    """Writes three planes of volumes on one grid, a column each, in the body's proportions.

    Args:
        path: the PNG.
        columns: from left to right.
        spacing: mm along the three axes.
        title: a line above.
        at: slice shown along each axis; the middle ones unless told.
    """
    from matplotlib.figure import Figure

    shape = columns[0].data.shape
    mm = [n * s for n, s in zip(shape, spacing, strict=True)]
    inch = 1.75 / max(mm[0], mm[1])  # a column is as wide as the widest plane
    heights = [mm[2] * inch, mm[2] * inch, mm[1] * inch]
    left, top, gap = 0.7, 0.75 if title else 0.45, 0.04
    width = max(left + (1.75 + gap) * len(columns), 5.0)
    height = top + sum(heights) + 4 * gap
    figure = Figure(figsize=(width, height), facecolor=_PAPER)
    if title:
        figure.text(0.5, 1 - 0.18 / height, title, color=_INK, fontsize=9, ha="center", va="center")
    across = (width - left) / len(columns)
    for row, (axis, tall) in enumerate(zip(range(3), heights, strict=True)):
        bottom = height - top - sum(heights[: row + 1]) - gap * row
        for number, column in enumerate(columns):
            x, w = (left + across * number) / width, (across - gap) / width
            axes = figure.add_axes((x, bottom / height, w, tall / height))
            axes.set_axis_off()
            draw_slice(
                axes, column.data, axis, at[axis] if at else None, low=column.low,
                high=column.high, label=column.label, colours=column.colours,
                aspect=_aspect(axis, spacing), interpolation=_SMOOTH,
            )  # fmt: skip
            if row == 0:
                axes.set_title(column.name, color=_INK, fontsize=8, pad=4)
            if number == 0:
                figure.text(
                    0.12 / width, (bottom + tall / 2) / height, PLANES[axis], rotation=90,
                    color=_INK, fontsize=8, ha="left", va="center",
                )  # fmt: skip
                figure.text(
                    0.45 / width, (bottom + tall / 2) / height, _LEFT[axis], color="#9a9a9a",
                    fontsize=7, ha="left", va="center",
                )  # fmt: skip
    _write(figure, path)


def summary_picture(
    scan: Volume, heat: Volume | None, level: float, verdict: str, heading: str
) -> UInt8[np.ndarray, "768 1024 3"]:
    """Three planes through the highest peak, without and with the heat, above a text.

    Args:
        scan: RAS+.
        heat: on the same grid, in healthy standard deviations; None shows the middle without.
        level: where the heat begins.
        verdict: any length; it is wrapped.
        heading: above all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shape = scan.data.shape
    at = [n // 2 for n in shape]
    if heat is not None:
        at = [int(n) for n in np.unravel_index(int(np.argmax(heat.data)), shape)]
    low, high = (float(value) for value in np.percentile(scan.data, (0.5, 99.8)))
    figure = Figure(figsize=(10.24, 7.68), dpi=100, facecolor=_PAPER)
    figure.text(0.02, 0.965, heading, color="#ffc46b", fontsize=14, va="center", weight="bold")
    for axis in range(3):
        aspect = _aspect(axis, scan.spacing)
        for row in range(1 if heat is None else 2):
            bottom, tall = (0.2, 0.72) if heat is None else (0.58 - 0.39 * row, 0.36)
            axes = figure.add_axes((0.02 + 0.325 * axis, bottom, 0.31, tall))
            axes.set_axis_off()
            draw_slice(axes, scan.data, axis, at[axis], low=low, high=high, aspect=aspect)
            axes.text(
                0.02, 0.5, _LEFT[axis], transform=axes.transAxes, color=_INK, fontsize=11,
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
        0.02, 0.16, textwrap.fill(verdict, 108), color=_INK, fontsize=12, va="top", parse_math=False
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class Example(NamedTuple):
    """A lesion and what was made of it.

    Attributes:
        name: said above it.
        volume, recon, heat: (X, Y, Z), RAS+; heat in healthy standard deviations.
        truth: (X, Y, Z), where the lesion is.
        level: of the heat, above which voxels make regions.
    """

    name: str
    volume: np.ndarray
    recon: np.ndarray
    heat: np.ndarray
    truth: np.ndarray
    level: float


def draw_lesions(path: Path, examples: Sequence[Example]) -> None:
    """Writes an axial slice through the middle of each lesion, two lesions a row.

    From left to right: the scan, its reconstruction, the heat over the scan, the lesion outlined.
    """
    half = (len(examples) + 1) // 2
    size = examples[0].volume.shape
    figure, axes = _canvas(half, 8, size, "", cell=1.5)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / (1.5 * half + 0.3), 0.03, 0.16)
    for number, example in enumerate(examples):
        row, first = number % half, 4 * (number // half)
        at = int(np.argmax(example.truth.sum(axis=(0, 1))))
        for column, (data, label) in enumerate(
            [(example.volume, None), (example.recon, None), (example.volume, None),
             (example.volume, example.truth.astype(int))]
        ):  # fmt: skip
            draw_slice(axes[row, first + column], data, 2, at, low=-1.0, high=1.0, label=label)
        top = max(2 * example.level, float(example.heat.max()))
        axes[row, first + 2].imshow(
            np.ma.masked_less(plane(example.heat, 2, at), 0.5 * example.level),
            cmap="inferno", vmin=0, vmax=top, alpha=0.75,
        )  # fmt: skip
        axes[row, first].set_title(example.name, color=_INK, fontsize=7, loc="left", pad=3)
    for first in (0, 4):
        for column, name in enumerate(("scan", "reconstruction", "heat", "lesion")):
            box = axes[0, first + column].get_position()
            figure.text(
                (box.x0 + box.x1) / 2, 0.995, name, color="#9a9a9a", fontsize=8, ha="center",
                va="top",
            )  # fmt: skip
    _write(figure, path)


def heat_table() -> np.ndarray:
    """Colours of heat, (256, 3) uint8, from where it begins to where it is brightest."""
    return colour_table("inferno", 0.25)


def colour_table(colours: str | tuple[str, ...], first: float = 0.0) -> np.ndarray:
    """A colour scale as (256, 3) uint8.

    Args:
        colours: matplotlib's name of the scale, or `DIFFERENCE`.
        first: share of the scale that is left out at its dark end.
    """
    from matplotlib import colormaps

    scale = colormaps[colours] if isinstance(colours, str) else _scale(colours)
    return np.rint(255 * scale(np.linspace(first, 1, 256))[:, :3]).astype(np.uint8)


def thumbnail(
    slices: np.ndarray, window: tuple[float, float], heat: np.ndarray, reach: tuple[float, float]
) -> bytes:
    """A slice with its heat as a PNG, a pixel a voxel.

    Args:
        slices: of `plane`.
        window: intensities that are black and white.
        heat: of `plane`, on the same grid.
        reach: heat where colours begin, and where they are brightest.
    """
    from matplotlib.image import imsave

    grey, share = (
        np.clip((values - low) / max(high - low, 1e-12), 0, 1)
        for values, (low, high) in ((slices, window), (heat, reach))
    )
    colours = heat_table()[np.rint(255 * share).astype(int)] / 255
    weight = np.where(share > 0, 0.8 * (0.35 + 0.65 * share), 0)[..., None]
    file = BytesIO()
    imsave(file, (1 - weight) * grey[..., None] + weight * colours, format="png")
    return file.getvalue()


def draw_slice(
    axes: "Axes",
    data: np.ndarray,
    axis: int,
    position: int | None = None,
    *,
    low: float = -1.0,
    high: float = 1.0,
    label: np.ndarray | None = None,
    colours: str | tuple[str, ...] = "gray",
    aspect: float = 1.0,
    interpolation: str = "nearest",
) -> None:
    """Draws one slice, the middle one unless told, with the outlines of its labels."""
    at = data.shape[axis] // 2 if position is None else position
    slices = plane(data, axis, at)
    scale = colours if isinstance(colours, str) else _scale(colours)
    axes.imshow(slices, cmap=scale, vmin=low, vmax=high, aspect=aspect, interpolation=interpolation)
    if label is None:
        return
    for value in (int(v) for v in np.unique(label) if v > 0):
        mask = plane(label == value, axis, at).astype(float)
        if mask.any():
            colour = LABEL_COLOURS[(value - 1) % len(LABEL_COLOURS)]
            axes.contour(mask, levels=[0.5], colors=[colour], linewidths=0.9)


def _scale(colours: tuple[str, ...]) -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("medgan", colours)


def _aspect(axis: int, spacing: tuple[float, float, float]) -> float:
    across, up = [s for number, s in enumerate(spacing) if number != axis]
    return up / across


def _canvas(
    rows: int, columns: int, shape: tuple[int, ...], title: str, cell: float = 1.3
) -> "tuple[Figure, np.ndarray]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(cell * columns + 0.9, cell * rows + 0.3), facecolor=_PAPER)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    if title:
        figure.suptitle(title, color=_INK, fontsize=10)
    figure.subplots_adjust(0.9 / (cell * columns + 0.9), 0.01, 0.995, 0.94, 0.03, 0.04)
    return figure, axes


def _write(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=figure.get_facecolor())
