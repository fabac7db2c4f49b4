"""Slices of volumes in radiological orientation, their colours, and the figures that hold them."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

PLANES = ("sagittal", "coronal", "axial")
DPI, PAGE_DPI = 110, 130
"""Of pictures in a folder, and of those in pages."""
LEFT_SIDES = ("A", "R", "R")
"""Orientation letter at the left edge of each plane: anterior, the patient's right."""
INK, PAPER, GREY, PANEL = "#e8e8e8", "#111111", "#9a9a9a", "#1c1c1c"
"""Colours of text, background, secondary text and plot area in PNG files."""
LABEL_COLOURS = ("#4cc9f0", "#f9c74f", "#f94144", "#90be6d", "#b388eb", "#ff8fab")
DIFFERENCE = ("#7fd4ff", "#2b6fb3", "#000000", "#b8432f", "#ffc46b")
"""Colours of a difference, from negative (blue) over zero (black) to positive (red)."""
_INFERNO = (
    *("#000004", "#0a0722", "#1e0c45", "#380962", "#510e6c", "#69166e", "#801f6c", "#982766"),
    *("#b0315b", "#c63d4d", "#d94d3d", "#e9612b", "#f47918", "#fa9407", "#fcb014", "#f8cd37"),
    *("#f2ea69", "#fcffa4"),
)
"""18 of the 256 colours of matplotlib's inferno, within 5 of 255; loading it takes a second."""


@dataclass(frozen=True)
class ColourScale:
    """How intensities are shown.

    Attributes:
        low, high: values with the first and the last colour.
        colours: name of a matplotlib colour map, or `DIFFERENCE`.
    """

    low: float = -1.0
    high: float = 1.0
    colours: str | tuple[str, ...] = "gray"

    def shares(self, data: np.ndarray) -> np.ndarray:
        """0 at `low` and 1 at `high`, clipped."""
        return np.clip((data - self.low) / max(self.high - self.low, 1e-12), 0, 1)


PREPARED = ColourScale()
"""Of prepared and generated volumes."""
RESIDUAL = ColourScale(0.0, 0.6, "inferno")
"""Of absolute differences between such volumes."""


def grey_scale(data: np.ndarray) -> ColourScale:
    """Grey from the darkest voxel to the 99.8th percentile."""
    return ColourScale(float(data.min()), float(np.percentile(data, 99.8)))


def plane(data: np.ndarray, axis: int, position: int) -> np.ndarray:
    """One slice of an RAS+ array in radiological orientation, row 0 at the top.

    Args:
        data: shape (X, Y, Z).
        axis: 0 sagittal, 1 coronal, 2 axial; anterior is left in sagittal slices, the
            patient's right is left in the others.
        position: index along the axis.
    """
    slices = np.take(data, position, axis=axis).T[::-1]
    return slices[:, ::-1]


def heat_table(first: float = 0.25) -> np.ndarray:
    """Colours of a score map, (256, 3) uint8, from its lowest shown value to its brightest.

    Args:
        first: share of the colours left out, from black on.
    """
    return colour_table(_INFERNO, first)


def colour_table(colours: tuple[str, ...], first: float = 0.0) -> np.ndarray:
    """Evenly spaced colours and what lies between them, as (256, 3) uint8.

    Args:
        colours: as `#rrggbb`.
        first: share of the table left out at its beginning.
    """
    known = np.array([[int(one[n : n + 2], 16) for n in (1, 3, 5)] for one in colours], float)
    places, at = np.linspace(0, 1, len(colours)), np.linspace(first, 1, 256)
    table = [np.interp(at, places, channel) for channel in known.T]
    return np.rint(np.stack(table, axis=1)).astype(np.uint8)


def thumbnail(
    slices: np.ndarray,
    window: tuple[float, float],
    heat: np.ndarray,
    heat_range: tuple[float, float],
) -> bytes:
    """A slice with its score map as a PNG, one pixel per voxel.

    Args:
        slices: from `plane`.
        window: intensities shown as black and as white.
        heat: the score map, from `plane`, on the same grid.
        heat_range: lowest shown and brightest value of the map.
    """
    from PIL import Image

    grey, share = (
        np.clip((values - low) / max(high - low, 1e-12), 0, 1)
        for values, (low, high) in ((slices, window), (heat, heat_range))
    )
    colours = heat_table()[np.rint(255 * share).astype(int)]
    weight = np.where(share > 0, 0.8 * (0.35 + 0.65 * share), 0)[..., None]
    file = BytesIO()
    mixed = (1 - weight) * 255 * grey[..., None] + weight * colours
    Image.fromarray(mixed.astype(np.uint8)).save(file, format="png")
    return file.getvalue()


def plot_slice(
    axes: "Axes",
    data: np.ndarray,
    axis: int,
    position: int | None = None,
    scale: ColourScale = PREPARED,
    *,
    label: np.ndarray | None = None,
    aspect: float | Literal["auto"] = 1.0,
    interpolation: str = "nearest",
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    """Plots one slice, the middle one by default, with label contours.

    Args:
        axes: receives it.
        data: shape (X, Y, Z).
        axis: across the slice.
        position: index along the axis.
        scale: colours of intensities.
        label: (X, Y, Z), of which each label gets a contour.
        aspect: height of a voxel over its width.
        interpolation: between voxels.
        extent: left, right, bottom and top of the slice, where the axes hold several.
    """
    at = data.shape[axis] // 2 if position is None else position
    slices = plane(data, axis, at)
    colours = scale.colours if isinstance(scale.colours, str) else _colormap(scale.colours)
    axes.imshow(
        slices, cmap=colours, vmin=scale.low, vmax=scale.high, aspect=aspect,
        interpolation=interpolation, extent=extent,
    )  # fmt: skip
    if label is None:
        return
    for value in (int(v) for v in np.unique(label) if v > 0):
        mask = plane(label == value, axis, at).astype(float)
        if mask.any():
            colour = LABEL_COLOURS[(value - 1) % len(LABEL_COLOURS)]
            axes.contour(
                mask, levels=[0.5], colors=[colour], linewidths=0.9, extent=extent,
                origin="upper" if extent else None,
            )  # fmt: skip


def _colormap(colours: tuple[str, ...]) -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("medgan", colours)


def aspect_of(axis: int, spacing: tuple[float, float, float]) -> float:
    """Height over width of a voxel in a plane."""
    across, up = [s for number, s in enumerate(spacing) if number != axis]
    return up / across


def panels(rows: int, columns: int, cell: float) -> "tuple[Figure, np.ndarray]":
    """A dark figure with rows and columns of empty panels, `cell` inches wide and high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(cell * columns + 0.9, cell * rows + 0.3), facecolor=PAPER)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, axes


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a PNG and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor=figure.get_facecolor())


def figure_png(figure: "Figure") -> bytes:
    """A PNG for a page."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=PAGE_DPI, facecolor=figure.get_facecolor())
    return file.getvalue()
