"""The grid of samples and reconstructions of a training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medgan.reporting.slices import INK, PLANES, RESIDUAL, panels, plot_slice, save_figure


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
    columns = max(len(fakes), len(volumes))
    maps: list[np.ndarray | None] = list(labels) or [None] * len(fakes)
    residuals = np.abs(volumes - recons)
    figure, axes = panels(3 + 3, columns, title)
    for column in range(len(fakes)):
        for axis in range(3):
            plot_slice(
                axes[axis, column],
                fakes[column],
                axis,
                label=maps[column],
                interpolation="bilinear",
            )
    for column in range(len(volumes)):
        plot_slice(axes[3, column], volumes[column], 2, interpolation="bilinear")
        plot_slice(axes[4, column], recons[column], 2, interpolation="bilinear")
        plot_slice(axes[5, column], residuals[column], 2, scale=RESIDUAL)
    names = [f"sample\n{p}" for p in PLANES] + ["real", "recon-\nstruction", "residual"]
    _name_rows(axes, names)
    save_figure(figure, path)


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
    figure, axes = panels(5, len(corrupted), title)
    for column, scans in enumerate(zip(corrupted, restored, healthy, strict=True)):
        slices = np.abs(scans[0] - scans[2]).sum(axis=(0, 1))
        chosen = int(slices.argmax()) if slices.any() else slices.size // 2
        for row, scan in enumerate(scans):
            flat = scan[:, :, chosen : chosen + 1]
            plot_slice(axes[row, column], flat, 2, interpolation="bilinear")
        changes = (scans[0] - scans[1], scans[1] - scans[2])
        for row, change in enumerate(changes, start=3):
            flat = np.abs(change[:, :, chosen : chosen + 1])
            plot_slice(axes[row, column], flat, 2, scale=RESIDUAL)
    _name_rows(axes, ["corrupted", "restored", "healthy", "removed", "error"])
    save_figure(figure, path)


def _name_rows(axes: np.ndarray, names: Sequence[str]) -> None:
    for row, name in enumerate(names):
        axes[row, 0].text(
            -0.08, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center",
            color=INK, fontsize=8,
        )  # fmt: skip
