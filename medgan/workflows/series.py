"""Series on disk: one subject along a condition as a 4D file, an image and a film."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.core.errors import ConfigError
from medgan.core.volume import SYNTHETIC, save_frames
from medgan.data.checks import CheckedScan
from medgan.data.conditions import Value, check
from medgan.data.manifest import Case, Refusal
from medgan.data.reading import read_case
from medgan.evaluation.sets.similarity import ms_ssim
from medgan.model.hull import share_longer
from medgan.model.model import Model
from medgan.model.outputs import Latent
from medgan.model.series import Frame, Series, direction_of, series
from medgan.reporting.film import write_film
from medgan.reporting.side_by_side import Column, side_by_side
from medgan.reporting.slices import grey_scale
from medgan.workflows.editing import SHOWN, inversion_row, known_of
from medgan.workflows.over_cases import Row, Tick, over_cases
from medgan.workflows.synthetic_scan import label_volumes

FAR = 3.0
"""Standard deviations that a series goes along a direction, to either side, unless told."""


class SyntheticSubject(NamedTuple):
    """A random latent with a name to publish it by.

    Attributes:
        case: such as `seed-3-5`.
        latent: with covariates.
    """

    case: str
    latent: Latent


@dataclass(frozen=True)
class Way:
    """Where a series goes along.

    Attributes:
        along: name of a condition that is a number, or a direction of the latent by its number.
        start, stop: first and last value.
        count: frames, both ends included.
        cycle: of a periodic condition, seconds of a whole one; 1 where unknown, 0 of any other.
        direction: of the latent (L,), where it is no condition; its length is one step.
    """

    along: str
    start: float
    stop: float
    count: int
    cycle: float = 0.0
    direction: np.ndarray | None = None

    @property
    def step(self) -> float:
        """From one frame to the next, in the unit of the condition."""
        return (self.stop - self.start) / (self.count - 1)

    @property
    def values(self) -> list[float]:
        """Of the frames, in even steps."""
        return [float(value) for value in np.linspace(self.start, self.stop, self.count)]

    @property
    def text(self) -> str:
        """Such as `age 40 to 80`."""
        return f"{self.along} {self.start:g} to {self.stop:g}"


def way_of(
    model: Model,
    along: str,
    start: float | None,
    stop: float | None,
    count: int,
    direction: np.ndarray | None = None,
) -> Way:
    """The way as it was asked for; an end that is not given is that of the training scans.

    A periodic condition goes through one cycle, whose end is its beginning and no frame of its own.

    Args:
        model: with conditions.
        along: a continuous one of these, or a direction by its number or name.
        start: first value, if it is given.
        stop: last value, if it is given.
        count: frames.
        direction: the one that `along` names, unless it is one by its number.

    Raises:
        ConfigError: E_CONDITION; E_VALUE for fewer than two frames or a way that does not rise.
    """
    if count < 2:
        raise ConfigError("E_VALUE", "a series", f"{count} frames", "ask for two or more")
    low, high, cycle = -FAR, FAR, 0.0
    direction = direction_of(model, along) if direction is None else direction
    if direction is None:
        condition = next(c for c in model.preprocessing.conditions if c.name == along)
        low, high = condition.quantiles[0], condition.quantiles[-1]
        if condition.kind == "periodic":
            low = start or 0.0
            high, cycle = low + 1 - 1 / count, condition.cycle or 1.0
    low, high = low if start is None else start, high if stop is None else stop
    way = Way(along, low, high, count, cycle, direction)
    if not way.start < way.stop:
        raise ConfigError("E_VALUE", "a series", f"{way.text} does not rise", "name a larger --to")
    return way


def write_series(
    model: Model,
    subjects: Sequence[Case] | Sequence[SyntheticSubject],
    folder: Path,
    way: Way,
    known: Mapping[str, Value],
    steps: int,
    facts: dict[str, str],
    progress: Tick = lambda done, total: None,
    read: Callable[[Case, bool], CheckedScan] = read_case,
) -> tuple[list[Row], list[Refusal]]:
    """Writes `series/`, `strips/`, `films/`, of synthetic subjects `labels/`, and `series.*`.

    Args:
        model: with a condition that is a number.
        subjects: cases of a manifest, or synthetic subjects.
        folder: receives everything, under pseudonyms.
        way: from `way_of`.
        known: covariates of the subjects, in place of those of their table or their latent.
        steps: of each inversion.
        facts: versions, for the provenance.
        progress: receives the number of subjects done and of all.
        read: gives the checked files of a case, without its label map; from the disk by default.

    Returns:
        The rows of the table and the refusals.

    Raises:
        ConfigError: E_CONDITION, E_CHANNEL.
    """

    def work(subject: Case | SyntheticSubject) -> tuple[Row, Row]:
        row: Row = {"case": subject.case}
        if isinstance(subject, SyntheticSubject):
            found = series(
                model, subject.latent, way.along, way.values, known, direction=way.direction
            )
        else:
            scan = model.prepare(read(subject, False), subject.case)
            own = {**known_of(model, subject), **known}
            found = series(model, scan, way.along, way.values, own, steps, way.direction)
        if found.inversion is not None and isinstance(subject, Case):
            row = inversion_row(subject, found.inversion)
        _write_files(folder, subject.case, found, way)
        frames = _frame_rows(found)
        row |= {
            "least_similarity": min(frame["similarity"] for frame in frames),
            "largest_step": max(frame["step"] for frame in frames[1:]),
            "mean_step": round(float(np.mean([frame["step"] for frame in frames[1:]])), 6),
            "series": f"series/{subject.case}.nii.gz",
        }
        said = {"covariates": found.covariates, "remarks": found.remarks}
        return row, row | said | {"frames": frames}

    given = {
        "along": way.along, "from": way.start, "to": way.stop, "known": dict(known),
        "steps": steps,
        "remarks": [
            remark for end in (way.start, way.stop) if way.direction is None
            for remark in check(model.preprocessing.conditions, {way.along: end})
        ],
        "model": model.facts, "made_with": facts,
    }  # fmt: skip
    return over_cases(subjects, folder, "series", given, work, progress)


def _frame_rows(found: Series) -> list[Row]:
    """What is measured of each frame, on the model's grid: changes as shares of the range."""
    rows, before = [], found.frames[0]
    for frame in found.frames:
        rows.append({
            "value": round(frame.value, 4),
            "change": _mean_change(frame, found.start),
            "step": _mean_change(frame, before),
            "similarity": round(float(ms_ssim(frame.volume[None], found.start.volume[None])), 5),
            "longer_latents": float(f"{share_longer(frame.latent):.3g}"),
            **({} if frame.p_value is None else {"frame_p": round(frame.p_value, 4)}),
            **{f"label_{n}_mm3": mm3 for n, mm3 in label_volumes(frame.label).items()},
        })  # fmt: skip
        before = frame
    return rows


def _mean_change(frame: Frame, other: Frame) -> float:
    return round(float((frame.volume - other.volume).abs().mean()) / 2, 6)


def _write_files(folder: Path, case: str, found: Series, way: Way) -> None:
    unit = way.cycle or 1.0
    images = [frame.image for frame in found.frames]
    labels = [frame.label for frame in found.frames if frame.label is not None]
    for name, frames in (("series", images), ("labels", labels)):
        path, text = folder / name / f"{case}.nii.gz", f"{SYNTHETIC}, {way.text}"
        if frames:
            save_frames(frames, path, unit * way.start, unit * way.step, text)
    _write_pictures(folder, case, found, way)


def _write_pictures(folder: Path, case: str, found: Series, way: Way) -> None:
    """The strip, which begins with the subject itself, and the film."""
    kind = "synthetic subject" if found.inversion is None else "scan"
    own = "unknown" if math.isnan(found.start.value) else f"{found.start.value:.4g}"
    start = found.start.image.canonical()
    volumes = [frame.image.canonical().data for frame in found.frames]
    names = [f"{way.along} {frame.value:.4g}" for frame in found.frames]
    grey = grey_scale(start.data)
    chosen = np.linspace(0, way.count - 1, min(way.count, SHOWN)).round().astype(int)
    columns = [Column(f"{kind}\n{way.along} {own}", start.data, grey)]
    columns += [Column(f"\n{names[i]}", volumes[i], grey) for i in chosen]
    title = f"SYNTHETIC series of one {kind}, {way.text}"
    side_by_side(folder / "strips" / f"{case}.png", columns, start.spacing, title)
    film, title = folder / "films" / f"{case}.gif", f"SYNTHETIC ({kind}, {way.along} {own})"
    write_film(film, volumes, names, start.spacing, grey, title, way.cycle * way.step)
