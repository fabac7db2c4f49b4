"""Directions of a model's latent on disk: a picture of what each changes, and a table."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medgan.core.errors import ConfigError
from medgan.core.files import write_atomic
from medgan.core.volume import SYNTHETIC
from medgan.model.covariate_direction import PREFIX, CovariateDirection
from medgan.model.model import Model
from medgan.model.outputs import Latent
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
"""Columns of the picture, in standard deviations of the latent, or of a covariate."""


def write_directions(
    model: Model,
    folder: Path,
    count: int,
    seed: int,
    facts: dict[str, str],
    followed: Sequence[CovariateDirection] = (),
) -> list[Row]:
    """Writes `directions.png` and `directions.json`.

    Args:
        model: the generator.
        folder: receives both.
        count: directions, the one with the largest effect first.
        seed: of the synthetic subject in the picture.
        facts: versions, for the provenance.
        followed: directions that follow covariates; a row for each comes last.

    Returns:
        The rows of the table.

    Raises:
        ConfigError: E_VALUE for more directions than the latent has.
    """
    if not 1 <= count <= model.sizes.latent:
        remedy = f"ask for 1 to {model.sizes.latent}"
        raise ConfigError("E_VALUE", "the latent", f"has no {count} directions", remedy)
    found = closed_form(first_layers(model.networks.generator), count)
    subject = model.draw(seed)
    rows: list[Row] = []
    frames = []
    for number, (vector, share) in enumerate(zip(found.vectors, found.shares, strict=True), 1):
        frames.append(_frames(model, subject, vector.numpy()))
        row = {"direction": f"direction:{number}", "share": round(float(share), 5)}
        rows.append(row | {"change": _change(frames[-1])})
    captions = [f"{row['direction']}\n{row['share']:.1%}" for row in rows]
    for one in followed:
        covariates = {**subject.covariates}
        if one.name in covariates:
            covariates[one.name] = None
        shown = _frames(model, Latent(subject.values, covariates), one.vector)
        rows.append(_followed(one) | {"change": _change(shown)})
        if one.found:
            frames.append(shown)
            captions.append(f"{rows[-1]['direction']}\n{one.step}\nr {one.correlation.value:.2f}")
    _write_picture(folder / "directions.png", captions, frames, model.preprocessing.spacing)
    record = {
        "synthetic": True, "seed": seed, "from": -FAR, "to": FAR,
        "covariates": subject.covariates, "directions": rows,
        "model": model.facts, "made_with": facts,
    }  # fmt: skip
    write_atomic(folder / "directions.json", json.dumps(record, indent=1))
    return rows


def _followed(one: CovariateDirection) -> Row:
    """The row of a direction that follows a covariate."""
    value, low, high = (round(number, 4) for number in one.correlation)
    return {
        "direction": f"{PREFIX}{one.name}", "found": one.found, "unit": one.unit,
        "correlation": value, "low": low, "high": high, "scans": one.scans,
        "length": round(float(np.linalg.norm(one.vector)), 4),
    }  # fmt: skip


def _change(frames: list[np.ndarray]) -> float:
    """Mean change from the first to the last, as a share of the range."""
    return round(float(np.abs(frames[-1] - frames[0]).mean()) / 2, 5)


@torch.inference_mode()
def _frames(model: Model, subject: Latent, direction: np.ndarray) -> list[np.ndarray]:
    """The first channel (X, Y, Z), in [-1, 1], at each of `PLACES`."""
    moved = ((subject.values + place * direction).astype(np.float32) for place in PLACES)
    return [model.channels(Latent(values, subject.covariates))[0].numpy() for values in moved]


def _write_picture(
    path: Path,
    captions: list[str],
    frames: list[list[np.ndarray]],
    spacing: tuple[float, float, float],
) -> None:
    """A row for each direction, in the sagittal or axial slice that changes most."""
    figure, axes = panels(len(frames), len(PLACES) + 1, cell=1.6)
    for line, (name, shown) in enumerate(zip(captions, frames, strict=True)):
        difference = shown[-1] - shown[0]
        axis, at = _slice_of_largest_change(difference)
        aspect = aspect_of(axis, spacing)
        for column, volume in enumerate(shown):
            plot_slice(axes[line, column], volume, axis, at, aspect=aspect)
        limit = max(0.1, float(np.percentile(np.abs(difference), 99.5)))
        scale = ColourScale(-limit, limit, DIFFERENCE)
        plot_slice(axes[line, -1], difference, axis, at, scale, aspect=aspect)
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
