"""The grid of samples and reconstructions of a training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medgan.reporting import slices
from medgan.reporting.slices import (
    INK,
    LABEL_COLOURS,
    PAPER,
    PLANES,
    PREPARED,
    RESIDUAL,
    heat_table,
    plane,
    save_figure,
)

_CELL, _GAP, _LEFT, _TOP = 1.3, 0.04, 0.9, 0.3
"""Width and height of a cell, and what stays free around a slice, beside and above all: inches."""


_GREYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


class _Sheet:
    """A dark figure of slices in rows and columns.

    All slices are pixels of one image, and all outlines one collection of lines: dozens of axes,
    images and contour plots take longer than a short training.

    Args:
        rows: names of the rows.
        columns: their number.
        title: a line above.
    """

    def __init__(self, rows: Sequence[str], columns: int, title: str) -> None:
        from matplotlib.figure import Figure

        self._width, self._height = _CELL * columns + _LEFT, _CELL * len(rows) + _TOP
        self._figure = Figure(figsize=(self._width, self._height), facecolor=PAPER)
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set_xlim(0, self._width)
        self._axes.set_ylim(0, self._height)
        self._axes.set_autoscale_on(False)
        self._dots = slices.DPI
        size = (round(self._height * self._dots), round(self._width * self._dots), 3)
        paper = [int(PAPER[at : at + 2], 16) for at in (1, 3, 5)]
        self._pixels = np.full(size, paper, np.uint8)
        self._lines: list[np.ndarray] = []
        self._colours: list[str] = []
        for row, name in enumerate(rows):
            middle = self._height - _TOP - _CELL * (row + 0.5)
            self._write(_LEFT - 0.1, middle, name, "right", 8)
        self._write(self._width / 2, self._height - _TOP / 2, title, "center", 10)

    def show(
        self,
        row: int,
        column: int,
        data: np.ndarray,
        axis: int,
        residual: bool = False,
        label: np.ndarray | None = None,
    ) -> None:
        """Draws the middle slice across an axis, as large as its cell allows."""
        from PIL import Image

        across, up = (size for number, size in enumerate(data.shape) if number != axis)
        size = (_CELL - _GAP) / max(across, up)
        left = _LEFT + _CELL * (column + 0.5) - size * across / 2
        top = _TOP + _CELL * (row + 0.5) - size * up / 2
        at = data.shape[axis] // 2
        shares = (RESIDUAL if residual else PREPARED).shares(plane(data, axis, at))
        colours = heat_table(0.0) if residual else _GREYS
        drawn = Image.fromarray(colours[np.rint(255 * shares).astype(np.uint8)])
        wide, tall = (max(1, round(self._dots * size * voxels)) for voxels in (across, up))
        how = Image.Resampling.NEAREST if residual else Image.Resampling.BILINEAR
        x, y = round(left * self._dots), round(top * self._dots)
        self._pixels[y : y + tall, x : x + wide] = np.asarray(drawn.resize((wide, tall), how))
        for value in () if label is None else np.unique(label[label > 0]):
            for line in _outlines(plane(label == value, axis, at)):
                inches = np.array([left, self._height - top]) + line * (size, -size)
                self._lines.append(inches)
                self._colours.append(LABEL_COLOURS[(int(value) - 1) % len(LABEL_COLOURS)])

    def save(self, path: Path) -> None:
        """Writes a PNG and its folder."""
        from matplotlib.collections import LineCollection

        self._axes.imshow(
            self._pixels, extent=(0, self._width, 0, self._height), aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        self._axes.add_collection(
            LineCollection(self._lines, colors=self._colours, linewidths=0.9), autolim=False
        )
        save_figure(self._figure, path)

    def _write(self, x: float, y: float, text: str, align: str, size: int) -> None:
        self._axes.text(x, y, text, color=INK, fontsize=size, ha=align, va="center")


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Lines about a region of a slice, (points, 2): voxels to the right and down."""
    from skimage.measure import find_contours

    return [line[:, ::-1] + 0.5 for line in find_contours(mask.astype(float), 0.5)]


def sample_grid(
    path: Path,
    fakes: np.ndarray,
    volumes: np.ndarray,
    recons: np.ndarray,
    labels: Sequence[np.ndarray] = (),
    title: str = "",
) -> None:
    """Writes a PNG: samples with label contours, then scans, reconstructions and residuals.

    Args:
        path: the PNG.
        fakes: shape (N, X, Y, Z) in [-1, 1].
        volumes: shape (M, X, Y, Z) in [-1, 1].
        recons: shape (M, X, Y, Z) in [-1, 1].
        labels: N label maps (X, Y, Z) of the fakes, or none.
        title: a line above.
    """
    names = [f"sample\n{p}" for p in PLANES] + ["real", "recon-\nstruction", "residual"]
    sheet = _Sheet(names, max(len(fakes), len(volumes)), title)
    for column, fake in enumerate(fakes):
        for axis in range(3):
            sheet.show(axis, column, fake, axis, label=labels[column] if len(labels) else None)
    for column, (volume, recon) in enumerate(zip(volumes, recons, strict=True)):
        sheet.show(3, column, volume, 2)
        sheet.show(4, column, recon, 2)
        sheet.show(5, column, np.abs(volume - recon), 2, residual=True)
    sheet.save(path)


def restoration_grid(
    path: Path, corrupted: np.ndarray, restored: np.ndarray, healthy: np.ndarray, title: str = ""
) -> None:
    """Writes a PNG: corrupted scans, the same restored, as they were, and what was changed.

    Args:
        path: the PNG.
        corrupted: shape (N, X, Y, Z) in [-1, 1]; the slice where it differs most is shown.
        restored: likewise.
        healthy: likewise.
        title: a line above.
    """
    sheet = _Sheet(["corrupted", "restored", "healthy", "removed", "error"], len(corrupted), title)
    for column, scans in enumerate(zip(corrupted, restored, healthy, strict=True)):
        apart = np.abs(scans[0] - scans[2]).sum(axis=(0, 1))
        chosen = int(apart.argmax()) if apart.any() else apart.size // 2
        before, after, healed = (scan[:, :, chosen : chosen + 1] for scan in scans)
        for row, scan in enumerate((before, after, healed)):
            sheet.show(row, column, scan, 2)
        sheet.show(3, column, np.abs(before - after), 2, residual=True)
        sheet.show(4, column, np.abs(after - healed), 2, residual=True)
    sheet.save(path)


def translation_grid(
    path: Path,
    source: np.ndarray,
    usual: np.ndarray,
    answer: np.ndarray,
    target: np.ndarray,
    title: str = "",
) -> None:
    """Writes a PNG: sources, answers without and with noise, targets, errors without noise.

    Args:
        path: the PNG.
        source: shape (N, X, Y, Z) in [-1, 1]; the middle slice is shown.
        usual: likewise.
        answer: likewise.
        target: likewise.
        title: a line above.
    """
    sheet = _Sheet(
        ["given", "without\nnoise", "with\nnoise", "wanted", "error"], len(source), title
    )
    for column, scans in enumerate(zip(source, usual, answer, target, strict=True)):
        for row, scan in enumerate(scans):
            sheet.show(row, column, scan, 2)
        sheet.show(4, column, np.abs(scans[1] - scans[3]), 2, residual=True)
    sheet.save(path)


def harmonisation_grid(
    path: Path, given: np.ndarray, changed: np.ndarray, wanted: np.ndarray, title: str = ""
) -> None:
    """Writes a PNG: scans as they are, changed, their difference, and scans of the wanted site.

    Args:
        path: the PNG.
        given: shape (N, X, Y, Z) in [-1, 1]; the middle slice is shown.
        changed: likewise.
        wanted: likewise, of other subjects.
        title: a line above.
    """
    sheet = _Sheet(["given", "changed", "change", "others of\nwanted site"], len(given), title)
    for column, (before, after, other) in enumerate(zip(given, changed, wanted, strict=True)):
        for row, scan in ((0, before), (1, after), (3, other)):
            sheet.show(row, column, scan, 2)
        sheet.show(2, column, np.abs(after - before), 2, residual=True)
    sheet.save(path)
