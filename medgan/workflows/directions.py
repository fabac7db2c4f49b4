"""Directions of a model's latent on disk: a picture of what each changes, and a table."""

import json
from pathlib import Path

import numpy as np
import torch

from medgan.core.errors import ConfigError
from medgan.core.files import write_atomic
from medgan.core.volume import SYNTHETIC
from medgan.model.model import Model
from medgan.model.outputs import Latent
from medgan.model.series import direction_of
from medgan.networks.directions import closed_form, first_layers
from medgan.reporting.slices import (
    DIFFERENCE,
    INK,
    ColourScale,
    aspect_of,
    panels,
    plot_slice,
    save_figure,
)
from medgan.workflows.over_cases import Row
from medgan.workflows.series import FAR

PLACES = (-FAR, -FAR / 2, 0.0, FAR / 2, FAR)
"""Columns of the picture, in standard deviations."""


def write_directions(
    model: Model, folder: Path, count: int, seed: int, facts: dict[str, str]
) -> list[Row]:
    """Writes `directions.png` and `directions.json`.

    Args:
        model: the generator.
        folder: receives both.
        count: directions, the one with the largest effect first.
        seed: of the synthetic subject in the picture.
        facts: versions, for the provenance.

    Returns:
        The rows of the table.

    Raises:
        ConfigError: E_VALUE for more directions than the latent has.
    """
    if not 1 <= count <= model.sizes.latent:
        remedy = f"ask for 1 to {model.sizes.latent}"
        raise ConfigError("E_VALUE", "the latent", f"has no {count} directions", remedy)
    shares = closed_form(first_layers(model.networks.generator), count).shares
    subject = model.draw(seed)
    frames = [_frames(model, subject, number) for number in range(1, count + 1)]
    rows = [
        {
            "direction": f"direction:{number}",
            "share": round(float(share), 5),
            "change": round(float(np.abs(shown[-1] - shown[0]).mean()) / 2, 5),
        }
        for number, (share, shown) in enumerate(zip(shares, frames, strict=True), start=1)
    ]
    _write_picture(folder / "directions.png", rows, frames, model.preprocessing.spacing)
    record = {
        "synthetic": True, "seed": seed, "from": -FAR, "to": FAR,
        "covariates": subject.covariates, "directions": rows,
        "model": model.facts, "made_with": facts,
    }  # fmt: skip
    write_atomic(folder / "directions.json", json.dumps(record, indent=1))
    return rows


@torch.inference_mode()
def _frames(model: Model, subject: Latent, number: int) -> list[np.ndarray]:
    """The first channel (X, Y, Z), in [-1, 1], at each of `PLACES`."""
    direction = direction_of(model, f"direction:{number}")
    assert direction is not None
    moved = ((subject.values + place * direction).astype(np.float32) for place in PLACES)
    return [model.channels(Latent(values, subject.covariates))[0].numpy() for values in moved]


def _write_picture(
    path: Path,
    rows: list[Row],
    frames: list[list[np.ndarray]],
    spacing: tuple[float, float, float],
) -> None:
    """A row for each direction, in the sagittal or axial slice that changes most."""
    figure, axes = panels(len(rows), len(PLACES) + 1, cell=1.6)
    for line, (row, shown) in enumerate(zip(rows, frames, strict=True)):
        difference = shown[-1] - shown[0]
        axis, at = _slice_of_largest_change(difference)
        aspect = aspect_of(axis, spacing)
        for column, volume in enumerate(shown):
            plot_slice(axes[line, column], volume, axis, at, aspect=aspect)
        limit = max(0.1, float(np.percentile(np.abs(difference), 99.5)))
        scale = ColourScale(-limit, limit, DIFFERENCE)
        plot_slice(axes[line, -1], difference, axis, at, scale, aspect=aspect)
        name = f"{row['direction']}\n{row['share']:.1%}"
        axes[line, 0].text(
            -0.05, 0.5, name, transform=axes[line, 0].transAxes, color=INK, fontsize=7,
            ha="right", va="center",
        )  # fmt: skip
    titles = [*(f"{place:+g}" if place else "seed" for place in PLACES), "last less first"]
    for title, ax in zip(titles, axes[0], strict=True):
        ax.set_title(title, color=INK, fontsize=8)
    title = f"{SYNTHETIC}: one subject along each direction"
    figure.text(0.5, 0.99, title, color=INK, fontsize=9, ha="center", va="top")
    top = 1 - 0.5 / figure.get_figheight()
    figure.subplots_adjust(0.1, 0.01, 0.99, top, wspace=0.03, hspace=0.03)
    save_figure(figure, path)


def _slice_of_largest_change(difference: np.ndarray) -> tuple[int, int]:
    """Axis and position; only slices of the middle half, which show most of the anatomy."""
    size = np.abs(difference)
    found = []
    for axis in (0, 2):
        profile = size.mean(axis=tuple({0, 1, 2} - {axis}))
        quarter = len(profile) // 4
        at = quarter + int(profile[quarter : len(profile) - quarter].argmax())
        found.append((float(profile[at]), axis, at))
    return max(found)[1:]
