"""Lists and checks a data set: every file becomes a case or a refusal."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medgan.core.errors import DataError
from medgan.data.checks import Checked, check_image, check_label, same_grid
from medgan.data.dicom.conversion import Conversion
from medgan.data.dicom.series import ASIDE
from medgan.data.layouts.layouts import (
    Listed,
    inside,
    is_manifest,
    licence_of,
    list_scans,
    no_scans,
)
from medgan.data.manifest import Case, Manifest, Refusal, SeriesRow
from medgan.data.pseudonyms import Pseudonyms


def index(
    source: Path,
    pseudonyms: Pseudonyms,
    suffix: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
    converted: Path | None = None,
    *,
    subjects: Collection[str] = (),
    session: str = "",
    channels: Sequence[str] = (),
) -> tuple[Manifest, list[tuple[str, str, str]]]:
    """Lists and checks every scan of a data set.

    Args:
        source: a folder of NIfTI files, a Decathlon folder or `dataset.json`, a BIDS tree, a
            CSV or TSV with a column `image`, one NIfTI file, a folder of DICOM or one file of a
            DICOM series, or a manifest, whose pseudonyms, covariates, health and splits are kept.
        pseudonyms: gives cases and subjects their public names.
        suffix: of BIDS files, such as T1w; needed where a tree holds several. For DICOM, MR or
            CT.
        progress: told how many of how many scans are checked.
        converted: folder for the NIfTI files that DICOM series become.
        subjects: to read, as the data set names them, with or without `sub-`, or as pseudonyms;
            empty is all. A DICOM file that belongs to no series is nobody's and always counts.
        session: of a BIDS tree to read; empty is all.
        channels: image channels in order: BIDS suffixes, columns of a table or channel names of
            nnU-Net; empty is one.

    Returns:
        The manifest, without splits yet unless one was read, and the key: case, subject and file
        of every scan that was listed, refused ones included.

    Raises:
        DataError: E_NO_SCANS when nothing is usable, E_LAYOUT when the layout is not known,
            E_MANIFEST for a damaged manifest.
    """
    wanted = _pseudonyms_of(subjects, pseudonyms)
    if is_manifest(source):
        return _index_again(source, progress, wanted)
    listing = list_scans(source, suffix, session, channels)
    cases, refusals, key, rows = [], [], [], []
    seen_names: set[str] = set()
    seen_hashes: set[str] = set()
    with Conversion(converted, suffix) as conversion:
        expanded = (one for listed in listing for one in conversion.expand(listed))
        found = [
            one
            for one in expanded
            if not wanted
            or (one.fault and not one.subject)
            or pseudonyms.subject(one.subject or one.name) in wanted
        ]
        if not found:
            raise no_scans()
        for number, listed in enumerate(found):
            name = pseudonyms.case(listed.name)
            subject = pseudonyms.subject(listed.subject or listed.name)
            key += [(name, subject, str(path)) for path in listed.images.values()]
            row = partial(_row, listed, name, subject)
            try:
                if name in seen_names:
                    raise DataError("E_DUPLICATE", name, "two scans have this name", "rename one")
                seen_names.add(name)
                scan, notes = conversion.ready(listed, name)
                case = examine(scan, name, subject)
                if case.sha256 in seen_hashes:
                    raise DataError(
                        "E_DUPLICATE", name, "same content as an earlier scan", "leave one out"
                    )
                seen_hashes.add(case.sha256)
                cases.append(case)
                rows += row(case, "used", "", "; ".join(notes), "")
            except DataError as error:
                reason = (error.code, error.what, error.remedy)
                if error.code in ASIDE:
                    rows += row(None, "aside", *reason)
                else:
                    refusals.append(Refusal(name, *reason))
                    rows += row(None, "refused", *reason)
            progress(number + 1, len(found))
    return Manifest(tuple(cases), tuple(refusals), licence_of(source), tuple(rows)), key


def _pseudonyms_of(subjects: Collection[str], pseudonyms: Pseudonyms) -> set[str]:
    """Every pseudonym that these names could stand for."""
    plain = {name.removeprefix("sub-") for name in subjects}
    spelled = [*subjects, *plain, *(f"sub-{name}" for name in plain)]
    return {*subjects, *map(pseudonyms.subject, spelled)}


def _row(
    listed: Listed, name: str, subject: str, case: Case | None, *verdict: str
) -> list[SeriesRow]:
    """The line of a DICOM series in the table; none for other scans."""
    if listed.series is None and listed.fault is None:
        return []
    if case is not None:
        matrix, spacing = case.shape, case.spacing
    else:
        matrix, spacing = listed.series.extent if listed.series else ((), ())
    modality = listed.series.first.modality if listed.series else "other"
    return [SeriesRow(name, subject, modality, matrix, spacing, *verdict)]


def _index_again(
    path: Path, progress: Callable[[int, int], None], wanted: Collection[str]
) -> tuple[Manifest, list[tuple[str, str, str]]]:
    """The cases of a manifest, every file read again; one that has changed is refused."""
    manifest = Manifest.load(path)
    chosen = [case for case in manifest.cases if not wanted or case.subject in wanted]
    if wanted and not chosen:
        raise no_scans()
    cases, refusals = [], []
    for number, case in enumerate(chosen, start=1):
        label = Path(case.label) if case.label else None
        listed = Listed(
            case.case, case.subject, {name: Path(path) for name, path in case.images.items()},
            label, tuple(case.covariates.items()),
        )  # fmt: skip
        try:
            found = examine(listed, case.case, case.subject)
            if (found.hashes, found.label_sha256) != (case.hashes, case.label_sha256):
                raise DataError(
                    "E_MANIFEST", case.case, "the file is not the one that was checked",
                    "run medgan check again",
                )  # fmt: skip
            cases.append(replace(found, healthy=case.healthy, split=case.split))
        except DataError as error:
            refusals.append(Refusal(case.case, error.code, error.what, error.remedy))
        progress(number, len(chosen))
    key = [(case.case, case.subject, path) for case in chosen for path in case.images.values()]
    return Manifest(tuple(cases), tuple(refusals), manifest.licence), key


def examine(listed: Listed, case: str, subject: str) -> Case:
    """Reads all channels of one scan and its label map to their ends.

    Args:
        listed: what to read.
        case: its pseudonym.
        subject: likewise.

    Raises:
        DataError: with a code that says what is wrong; the text never holds a path.
    """
    if listed.missing:
        raise DataError(
            "E_CHANNEL", case, f"no {', '.join(listed.missing)}",
            "add the channel, leave the scan out or change data.channels",
        )  # fmt: skip
    for path in (*listed.images.values(), listed.label):
        if listed.root and path and not inside(path, listed.root):
            raise DataError(
                "E_OUTSIDE", case, "a link leads out of the data folder", "copy the file into it"
            )
    images = {name: check_image(path, case) for name, path in listed.images.items()}
    image = next(iter(images.values()))
    for name, other in images.items():
        if not same_grid(image, other):
            raise DataError(
                "E_CHANNEL_GRID", case, f"{name} and {next(iter(images))} lie on different grids",
                "register and resample the channels to one grid",
            )  # fmt: skip
    label: Checked | None = None
    if listed.label is not None:
        label = check_label(listed.label, case, image)
    volumes = {} if label is None else _label_volumes(label)
    return Case(
        case, subject, {name: str(path) for name, path in listed.images.items()},
        str(listed.label) if listed.label else None,
        {name: image.sha256 for name, image in images.items()}, label.sha256 if label else None,
        image.shape, image.spacing, tuple(volumes), dict(listed.covariates),
        label_mm3=tuple(volumes.values()),
    )  # fmt: skip


def _label_volumes(label: Checked) -> dict[int, float]:
    """mm^3 of each label value that is present, without background."""
    voxel = math.prod(label.spacing)
    values, counts = np.unique(label.data, return_counts=True)
    return {int(v): round(n * voxel, 3) for v, n in zip(values, counts, strict=True) if v > 0}
