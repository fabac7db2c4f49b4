"""Scans of patients with the masks of their lesions and a score map."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.reporting.slices import GREY, INK, grey_scale, panels, plane, plot_slice, save_figure

COLUMNS = ("scan", "mask", "map")


class PatientExample(NamedTuple):
    """An axial slice of a patient.

    Attributes:
        name: above the slice.
        scan, truth, heat: (X, Y), axes Right and Anterior: intensities, the mask, the map.
        aspect: height of a voxel over its width.
    """

    name: str
    scan: np.ndarray
    truth: np.ndarray
    heat: np.ndarray
    aspect: float


def plot_patients(path: Path, examples: Sequence[PatientExample], row: str) -> None:
    """Writes a PNG: of each patient the scan, the contour of its mask, and the map over it.

    Args:
        path: the PNG.
        examples: from the worst to the best.
        row: name of the map.
    """
    half = max(1, (len(examples) + 1) // 2)
    groups = 1 if len(examples) < 2 else 2
    figure, axes = panels(half, 3 * groups, cell=2.0)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / (2.0 * half + 0.3), 0.03, 0.14)
    for number, example in enumerate(examples):
        line, first = number % half, 3 * (number // half)
        scan = example.scan[:, :, None]
        mask = example.truth[:, :, None].astype(int)
        for column, label in enumerate((None, mask, None)):
            plot_slice(
                axes[line, first + column], scan, 2, 0, grey_scale(example.scan), label=label,
                aspect=example.aspect,
            )  # fmt: skip
        low, high = np.quantile(example.heat, [0.9, 0.999])
        axes[line, first + 2].imshow(
            np.ma.masked_less_equal(plane(example.heat[:, :, None], 2, 0), low),
            cmap="inferno", vmin=low, vmax=max(high, low + 1e-6), alpha=0.75, aspect=example.aspect,
        )  # fmt: skip
        axes[line, first].set_title(example.name, color=INK, fontsize=7, loc="left", pad=3)
    for group in range(groups):
        for column, name in enumerate((*COLUMNS[:2], f"{COLUMNS[2]}: {row}")):
            box = axes[0, 3 * group + column].get_position()
            figure.text(
                (box.x0 + box.x1) / 2, 0.995, name, color=GREY, fontsize=8, ha="center", va="top"
            )
    save_figure(figure, path)
