"""The page of a privacy audit: synthetic scans beside their nearest training scans."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from medgan.reporting.slices import (
    DIFFERENCE,
    INK,
    PAPER,
    PLANES,
    PREPARED,
    ColourScale,
    figure_png,
    plot_slice,
)
from medgan.reporting.template import data_uri, render

ATTACKS = {
    "nearest": "similarity to the nearest synthetic scan",
    "nearest beyond usual": "that, less the similarity to a typical synthetic scan",
    "logit": "how real the discriminator finds the scan",
    "flatness": "how little the discriminator's answer changes around the scan",
    "hull": "how close the scan is to the training scans for the encoder",
    "deviation": "how close the scan is to the mean scan",
    "residual": "how well the scan is reconstructed",
    "restoration": "how little the restorer changes in the scan",
    "localiser": "how little the localiser finds in the scan",
    "density": "how usual details of the scan are",
    "latent": "how usual the scan is for the encoder",
    "discriminator": "how usual the scan is for the discriminator",
    "features": "a classifier of the images, trained on other subjects",
    "neighbours": "similarity to other scans of its own set",
}
"""What attacks and controls tell training scans from others by."""
_SOFT = "#9aa3b2"
_SYNTHETIC, _FRESH, _PLANTED = "#4cc9f0", "#9aa3b2", "#f9c74f"


class Pair(NamedTuple):
    """A volume beside its nearest training scan.

    Attributes:
        kind: what the volume is.
        volume: shape (X, Y, Z) in [-1, 1], RAS+.
        case: pseudonym of the training scan.
        scan: the training scan.
        closeness: of the volume.
    """

    kind: str
    volume: np.ndarray
    case: str
    scan: np.ndarray
    closeness: float


class Closeness(NamedTuple):
    """Closeness of each volume, and the threshold of near copies."""

    fakes: Tensor
    fresh: Tensor
    planted: Tensor
    threshold: float


def plot_pairs(pairs: Sequence[Pair], spacing: tuple[float, float, float]) -> bytes:
    """A PNG with one row per pair: volume, training scan, difference, each in three planes.

    Args:
        pairs: at least one, all on one grid.
        spacing: mm along the three axes.
    """
    from matplotlib.figure import Figure

    mm = [n * s for n, s in zip(pairs[0].volume.shape, spacing, strict=True)]
    wide, tall = [mm[1], mm[0], mm[0]], [mm[2], mm[2], mm[1]]
    inch = 1.15 / max(tall)
    widths = [w * inch for w in wide] * 3
    left, top, gap, space = 1.3, 0.34, 0.03, 0.16
    width = left + sum(widths) + 9 * gap + 2 * space
    step = max(tall) * inch + 2 * gap
    height = top + len(pairs) * step + gap
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    x = left
    for block, name in enumerate(("scan", "nearest training scan", "difference")):
        middle = x + sum(widths[:3]) / 2
        figure.text(
            middle / width, 1 - 0.2 / height, name, color=INK, fontsize=9, ha="center",
            va="center",
        )  # fmt: skip
        for axis in range(3):
            for row, pair in enumerate(pairs):
                high = tall[axis] * inch
                bottom = height - top - (row + 1) * step
                bottom += (step - high) / 2
                box = (x / width, bottom / height, widths[axis] / width, high / height)
                axes = figure.add_axes(box)
                axes.set_axis_off()
                data = (pair.volume, pair.scan, pair.volume - pair.scan)[block]
                across, up = [s for n, s in enumerate(spacing) if n != axis]
                scale = PREPARED if block < 2 else ColourScale(-1.5, 1.5, DIFFERENCE)
                plot_slice(
                    axes, data, axis, scale=scale, aspect=up / across, interpolation="bilinear"
                )
            x += widths[axis] + gap
        x += space
    for row, pair in enumerate(pairs):
        middle = height - top - (row + 0.5) * step
        text = f"{pair.kind}\ncloseness {pair.closeness:.2f}\nnearest {pair.case}"
        figure.text(
            (left - 0.08) / width, middle / height, text, color=INK, fontsize=7, ha="right",
            va="center", linespacing=1.5,
        )  # fmt: skip
    return figure_png(figure)


def plot_closeness(shown: Closeness) -> bytes:
    """A PNG of the closeness of held-out scans, synthetic scans and planted copies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.5), facecolor=PAPER)
    axes = figure.add_axes((0.17, 0.22, 0.8, 0.68), facecolor=PAPER)
    random = np.random.default_rng(0)
    rows = (
        ("planted copies", shown.planted, _PLANTED),
        ("synthetic scans", shown.fakes, _SYNTHETIC),
        ("held-out scans", shown.fresh, _FRESH),
    )
    for height, (_, values, colour) in enumerate(reversed(rows)):
        jitter = height + random.uniform(-0.26, 0.26, len(values))
        axes.scatter(values.numpy(), jitter, s=7, color=colour, alpha=0.7, linewidths=0)
    axes.axvline(shown.threshold, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(
        shown.threshold, 2.62, " flagged", color=INK, fontsize=8, ha="left", va="center",
    )  # fmt: skip
    axes.set_yticks(range(3), [name for name, _, _ in reversed(rows)])
    axes.set_ylim(-0.5, 2.5)
    axes.set_xlabel(
        "closeness: similarity to the nearest training scan minus that to the nearest held-out one",
        color=_SOFT, fontsize=8,
    )  # fmt: skip
    axes.tick_params(colors=INK, labelsize=8, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(_SOFT)
    return figure_png(figure)


def audit_page(result: dict[str, Any], pairs: bytes | None, shown: Closeness | None) -> str:
    """The text of audit.html. With pairs it shows training scans: patient data.

    Args:
        result: content of audit.json.
        pairs: of `plot_pairs`; None without synthetic scans.
        shown: for the plot of closeness; None without synthetic scans.
    """
    images = {
        "pairs": None if pairs is None else data_uri(pairs),
        "curves": None if shown is None else data_uri(plot_closeness(shown)),
    }
    return render("audit.html.j2", **result, **images, planes=", ".join(PLANES), by=ATTACKS)
