"""Inversions, interpolations and edits on disk, with an image of each."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medgan.core.files import write_atomic
from medgan.core.volume import SYNTHETIC, Volume
from medgan.data.checks import CheckedScan
from medgan.data.conditions import Value, check, covariates_of, understood
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.data.manifest import Case, Refusal
from medgan.data.reading import read_case
from medgan.model.hull import remark_on, share_longer
from medgan.model.model import Model
from medgan.model.outputs import Edit, Inversion, Latent, Synthetic
from medgan.reporting.side_by_side import Column, side_by_side
from medgan.reporting.slices import DIFFERENCE, ColourScale, grey_scale
from medgan.workflows.over_cases import Row, Tick, over_cases
from medgan.workflows.synthetic_scan import save_synthetic

log = logging.getLogger(__name__)
RECON_TEXT = f"{SYNTHETIC}, reconstruction of a scan"
EDIT_TEXT = f"{SYNTHETIC}, edited scan"
DIFFERENCE_TEXT = f"{SYNTHETIC}, edited scan less the scan"
GENERATED_TEXT = f"{SYNTHETIC}, scan generated with other covariates"
SHOWN = 10
"""Most frames in one image."""


def write_inversions(
    model: Model,
    cases: Sequence[Case],
    folder: Path,
    steps: int,
    facts: dict[str, str],
    progress: Tick = lambda done, total: None,
    read: Callable[[Case, bool], CheckedScan] = read_case,
) -> tuple[list[Row], list[Refusal]]:
    """Writes `recons/`, `pictures/`, `latents.csv` and `latents.json`.

    Covariates of the cases that the model is conditioned on are used. A scan that cannot be used
    is refused, and the others are inverted.

    Args:
        model: the generator and its encoder.
        cases: from a manifest.
        folder: receives everything, under pseudonyms.
        steps: of each inversion.
        facts: versions, for the provenance.
        progress: receives the number of scans done and of all.
        read: gives the checked files of a case, without its label map; from the disk by default.

    Returns:
        The rows of the table and the refusals.
    """

    def work(case: Case) -> tuple[Row, Row]:
        known = known_of(model, case)
        scan = model.prepare(read(case, False), case.case)
        found = model.invert(scan, steps, known)
        found.recon.save(folder / "recons" / f"{case.case}.nii.gz", RECON_TEXT)
        for name, volume in list(found.recons.items())[1:]:
            volume.save(folder / "recons" / f"{case.case}_{name}.nii.gz", RECON_TEXT)
        _write_inversion_image(folder / "pictures" / f"{case.case}.png", scan.source[0], found)
        row = {**inversion_row(case, found), "recon": f"recons/{case.case}.nii.gz"}
        more = {
            "covariates": found.latent.covariates, "latent": found.latent.values.tolist(),
            "remarks": list(found.remarks),
        }  # fmt: skip
        return row, row | more

    given = {"steps": steps, "model": model.facts, "made_with": facts}
    return over_cases(cases, folder, "latents", given, work, progress)


def write_edits(
    model: Model,
    cases: Sequence[Case],
    folder: Path,
    changes: Mapping[str, Value],
    known: Mapping[str, Value],
    steps: int,
    facts: dict[str, str],
    progress: Tick = lambda done, total: None,
    read: Callable[[Case, bool], CheckedScan] = read_case,
) -> tuple[list[Row], list[Refusal]]:
    """Writes `before/`, `after/`, `difference/`, `generated/`, `pictures/` and `edits.*`.

    Args:
        model: with conditions.
        cases: from a manifest.
        folder: receives everything, under pseudonyms.
        changes: values by the names of conditions.
        known: covariates of the scans, in place of those of their table.
        steps: of each inversion.
        facts: versions, for the provenance.
        progress: receives the number of scans done and of all.
        read: gives the checked files of a case, without its label map; from the disk by default.

    Returns:
        The rows of the table and the refusals.

    Raises:
        ConfigError: E_CONDITION for conditions that the model does not have.
    """

    def work(case: Case) -> tuple[Row, Row]:
        own = {**known_of(model, case), **known}
        prepared = model.prepare(read(case, False), case.case)
        edit = model.edit(prepared, changes, own, steps)
        scan = prepared.source[0]
        for kind, volume, text in (
            ("before", scan, ""),
            ("after", edit.edited, EDIT_TEXT),
            ("difference", edit.difference, DIFFERENCE_TEXT),
            ("generated", edit.generated, GENERATED_TEXT),
        ):
            volume.save(folder / kind / f"{case.case}.nii.gz", text)
        _write_edit_image(folder / "pictures" / f"{case.case}.png", scan, edit, changes)
        low, high = float(scan.data.min()), float(scan.data.max())
        mean = float(np.abs(edit.difference.data).mean()) / (high - low)
        row = {**inversion_row(case, edit.inversion), "mean_change": round(mean, 6)}
        row["after"] = f"after/{case.case}.nii.gz"
        own = edit.inversion.latent.covariates
        if edit.p_value is not None:
            row["edited_p"] = round(edit.p_value, 4)
        said = {"covariates": own, "changed": edit.covariates, "remarks": list(edit.remarks)}
        return row, row | said

    given = {
        "changes": dict(changes), "known": dict(known), "steps": steps,
        "remarks": check(model.preprocessing.conditions, changes),
        "model": model.facts, "made_with": facts,
    }  # fmt: skip
    return over_cases(cases, folder, "edits", given, work, progress)


def write_interpolation(
    model: Model,
    folder: Path,
    ends: tuple[Latent, Latent],
    names: tuple[str, str],
    count: int,
    facts: dict[str, str],
) -> Path:
    """Writes `images/`, `labels/`, `strip.png` and `provenance.json`.

    Args:
        model: the generator.
        folder: receives everything.
        ends: first and last latent.
        names: of the ends, without file names.
        count: number of scans, both ends included.
        facts: versions, for the provenance.

    Returns:
        The folder.
    """
    frames = model.interpolate(*ends, count)
    remark = remark_on(end.values for end in ends)  # no frame is longer than both
    if remark:
        log.warning("%s: the model has to guess", remark)
    for frame in frames:
        name = f"frame-{frame.number:03d}.nii.gz"
        save_synthetic(frame, folder / "images" / name, folder / "labels" / name)
    _write_strip(folder / "strip.png", frames, names)
    provenance = {
        "synthetic": True,
        "ends": names,
        "smallest_component": SMALLEST_COMPONENT,
        "frames": [frame.covariates for frame in frames],
        "remarks": [remark] if remark else [],
        "model": model.facts,
        "made_with": facts,
    }
    write_atomic(folder / "provenance.json", json.dumps(provenance, indent=1))
    return folder


def known_of(model: Model, case: Case) -> dict[str, Value]:
    """Covariates of a case; a category that the model never saw counts as unknown."""
    conditions = model.preprocessing.conditions
    return understood(conditions, covariates_of(case, conditions))


def inversion_row(case: Case, found: Inversion) -> Row:
    """The columns that tables of inverted scans share.

    Pseudonyms, errors, length of the latent, and how like the training scans the scan is.
    """
    length = float(np.linalg.norm(found.latent.values)) / math.sqrt(len(found.latent.values))
    return {
        "case": case.case,
        "subject": case.subject,
        "error_before": round(found.error_before, 5),
        "error_after": round(found.error_after, 5),
        "latent_length": round(length, 4),
        "longer_latents": float(f"{share_longer(found.latent.values):.3g}"),
        **({} if found.p_value is None else {"scan_p": round(found.p_value, 4)}),
    }


def _write_inversion_image(path: Path, scan: Volume, found: Inversion) -> None:
    scan = scan.canonical()
    start, recon = (volume.canonical().data for volume in (found.start, found.recon))
    grey = grey_scale(scan.data)
    residual = np.abs(scan.data - recon)
    shares = [f"mean error {e / 2:.1%}" for e in (found.error_before, found.error_after)]
    columns = [
        Column("scan\n", scan.data, grey),
        Column(f"encoder\n{shares[0]}", start, grey),
        Column(f"inversion\n{shares[1]}", recon, grey),
        Column(
            "residual\nup to 30% of the range", residual,
            ColourScale(0.0, 0.3 * (grey.high - grey.low), "inferno"),
        ),
    ]  # fmt: skip
    side_by_side(path, columns, scan.spacing, "SYNTHETIC reconstructions of one scan")


def _write_edit_image(path: Path, scan: Volume, edit: Edit, changes: Mapping[str, Value]) -> None:
    before = scan.canonical()
    after, difference, generated = (
        volume.canonical().data for volume in (edit.edited, edit.difference, edit.generated)
    )
    grey = grey_scale(before.data)
    intensities = grey.high - grey.low
    largest = float(np.percentile(np.abs(difference), 99.9)) / intensities
    limit = max(0.05, math.ceil(largest / 0.05) * 0.05)
    asked = ", ".join(f"{name} {value}" for name, value in changes.items())
    own = edit.inversion.latent.covariates
    was = ", ".join(f"{n} {'unknown' if own[n] is None else _short(own[n])}" for n in changes)
    columns = [
        Column(f"scan\n{was}", before.data, grey),
        Column(f"edited\n{asked}", after, grey),
        Column(
            f"blue darker, red brighter\nby up to {limit:.0%} of the range", difference,
            ColourScale(-limit * intensities, limit * intensities, DIFFERENCE),
        ),
        Column(f"generated alone\n{asked}", generated, grey),
    ]  # fmt: skip
    at = _slices_of_largest_change(difference)
    side_by_side(path, columns, before.spacing, "SYNTHETIC edit of one scan", at)


def _write_strip(path: Path, frames: Sequence[Synthetic], names: tuple[str, str]) -> None:
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), SHOWN)).round().astype(int)
    low = min(float(frame.image.data.min()) for frame in frames)
    grey = ColourScale(low, max(grey_scale(frame.image.data).high for frame in frames))
    columns = []
    for frame in (frames[i] for i in chosen):
        label = frame.label.data if frame.label else None
        name = _frame_name(frame, len(frames))
        columns.append(Column(name, frame.image.data, grey, label))
    title = f"SYNTHETIC, from {names[0]} to {names[1]}"
    side_by_side(path, columns, frames[0].image.spacing, title)


def _frame_name(frame: Synthetic, count: int) -> str:
    known = [f"{n} {_short(v)}" for n, v in frame.covariates.items() if v is not None]
    return f"{frame.number + 1} of {count}\n{', '.join(known[:2])}"


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _slices_of_largest_change(difference: np.ndarray) -> tuple[int, int, int]:
    """The slice along each axis with the largest mean change; the middle slice without any."""
    size = np.abs(difference)
    profiles = [size.mean(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    x, y, z = (int(p.argmax()) if p.any() else len(p) // 2 for p in profiles)
    return x, y, z
