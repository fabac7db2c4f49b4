"""Lists and checks a data set: every file becomes a case or a refusal."""

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medgan.core.errors import DataError, of_scan
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan, check_scan
from medgan.data.dicom.conversion import Conversion
from medgan.data.dicom.series import IGNORED
from medgan.data.duplicates import Duplicates, voxel_hash
from medgan.data.layouts.descriptions import licence_of
from medgan.data.layouts.files import inside
from medgan.data.layouts.layouts import list_scans, no_scans
from medgan.data.layouts.listed import Listed, Selection
from medgan.data.layouts.manifest import matches as is_manifest
from medgan.data.manifest import Case, Manifest, Refusal, SeriesRow
from medgan.data.noise import noise_level
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.read_ahead import ReadAhead, threads_for_reading
from medgan.data.sequences import PHASES, SEQUENCE, Sequences

log = logging.getLogger(__name__)
Key = list[tuple[str, str, str]]
"""Case, subject and file of each scan."""
Keep = Callable[[str, CheckedScan], None]
Found = tuple[Listed, str, str]
"""A scan, its pseudonym and that of its subject."""
Choose = Callable[[list[Found]], list[Found]]
"""Gives those scans of a listing that are to be read."""
Outcome = tuple[Case, tuple[str, ...]]
"""A case, and what was corrected on the way from DICOM."""


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
    keep: Keep = lambda case, scan: None,
    choose: Choose | None = None,
    part: Choose | None = None,
) -> tuple[Manifest, Key]:
    """Lists and checks every scan of a data set.

    Args:
        source: the data set, in any of the `LAYOUTS`. A manifest keeps its pseudonyms,
            covariates, health and splits.
        pseudonyms: gives cases and subjects their public names.
        suffix: of BIDS files, such as T1w; needed where a tree holds several. For DICOM, MR or
            CT.
        progress: receives how many of how many scans are checked, first 0.
        converted: folder for the NIfTI files that DICOM series become.
        subjects: to read, as the data set names them, with or without `sub-`, or as pseudonyms;
            empty is all. A DICOM file that belongs to no series has no subject and always counts.
        session: of a BIDS tree to read; empty is all.
        channels: image channels in order: BIDS suffixes, columns of a table or channel names of
            nnU-Net; empty is all that the layout names, else one.
        keep: receives what was read of each scan, so that it need not be read again.
        choose: which of the listed scans are read, where that is not all; loose files are then
            named by their place alone (`Selection.by_place`).
        part: which of the listed scans are read, where others read the rest; names stay.

    Returns:
        The manifest, without splits yet unless one was read, and the key: case, subject and file
        of every scan that was listed, refused ones included.

    Raises:
        DataError: E_NO_SCANS when nothing is usable, E_LAYOUT when the layout is not known,
            E_MANIFEST for a damaged manifest.
    """
    selection = Selection(suffix, session, tuple(channels), by_place=choose is not None)
    listing = list_scans(source, selection)
    wanted = _pseudonyms_of(subjects, pseudonyms)
    cases: list[Case] = []
    refusals: list[Refusal] = []
    rows: list[SeriesRow] = []
    key: Key = []
    duplicates = Duplicates()
    sequences = Sequences(converted and converted.with_name(PHASES))
    with Conversion(converted, suffix) as conversion:
        expanded = (one for listed in listing for one in conversion.expand(listed))
        found = [(one, *_names(one, pseudonyms)) for one in expanded]
        if wanted:
            found = [
                (one, name, subject)
                for one, name, subject in found
                if subject in wanted or (one.fault and not one.subject)
            ]
        if not found:
            raise no_scans()
        for chosen in (choose, part):
            found = found if chosen is None else chosen(found)
        read = partial(_read, readers=(conversion, sequences), keep=keep)
        for one, outcome in _outcomes(found, read, sequences, pseudonyms, progress):
            listed, name, subject = one
            key += [(name, subject, str(path)) for path in listed.images.values()]
            row = partial(_row, *one)
            try:
                if isinstance(outcome, DataError):
                    raise outcome
                case, notes = outcome
                if listed.sequence:
                    case = replace(case, sequence=pseudonyms.case(listed.sequence))
                duplicates.add(case)
                cases.append(case)
                rows += row(case, "used", "", "; ".join(notes), "")
            except DataError as error:
                reason = (error.code, error.what, error.remedy)
                if error.code in IGNORED:
                    rows += row(None, "ignored", *reason)
                else:
                    refusals.append(Refusal(name, *reason))
                    rows += row(None, "refused", *reason)
    licence = Manifest.load(source).licence if is_manifest(source) else licence_of(source)
    return Manifest(duplicates.as_one_subject(cases), tuple(refusals), licence, tuple(rows)), key


def _outcomes(
    found: Sequence[Found],
    read: Callable[[Listed, str, str], Outcome],
    sequences: Sequences,
    pseudonyms: Pseudonyms,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[Found, Outcome | DataError]]:
    """What became of each scan, or why it is refused; a sequence is replaced by its phases.

    A file is opened once: that it holds a sequence shows when it is read.
    """
    waiting, names, done = deque(found), set[str](), 0
    progress(0, len(waiting))
    ahead = ReadAhead(lambda one: read(*one), _is_plain, threads_for_reading())
    with closing(ahead) as outcome_of:
        while waiting:
            one = waiting.popleft()
            try:
                if one[1] in names:
                    raise DataError("E_DUPLICATE", one[1], "two scans have this name", "rename one")
                names.add(one[1])
                outcome = outcome_of(one, waiting)
            except DataError as error:
                outcome = error
            if isinstance(outcome, DataError) and outcome.code == SEQUENCE:
                try:
                    phases = sequences.expand(one[0], outcome)
                    waiting.extendleft(
                        (phase, *_names(phase, pseudonyms)) for phase in phases[::-1]
                    )
                    continue
                except DataError as error:
                    outcome = error
            done += 1
            progress(done, done + len(waiting))
            yield one, outcome


def _is_plain(one: Found) -> bool:
    """Whether a scan is read from its own files, so that it may be read before its turn."""
    return one[0].series is None and one[0].phase is None


def _names(listed: Listed, pseudonyms: Pseudonyms) -> tuple[str, str]:
    """The pseudonyms of a scan and of its subject."""
    if listed.known:
        return listed.known.case, listed.known.subject
    return pseudonyms.case(listed.name), pseudonyms.subject(listed.subject or listed.name)


def _pseudonyms_of(subjects: Collection[str], pseudonyms: Pseudonyms) -> set[str]:
    """Every pseudonym that these names could stand for."""
    plain = {name.removeprefix("sub-") for name in subjects}
    spelled = [*subjects, *plain, *(f"sub-{name}" for name in plain)]
    return {*subjects, *map(pseudonyms.subject, spelled)}


def _row(
    listed: Listed, name: str, subject: str, case: Case | None, *outcome: str
) -> list[SeriesRow]:
    """The line of a DICOM series in the table; none for other scans."""
    if listed.series is None and not listed.unsorted:
        return []
    if case is not None:
        matrix, spacing = case.shape, case.spacing
    else:
        matrix, spacing = listed.series.extent if listed.series else ((), ())
    modality = listed.series.first.modality if listed.series else "other"
    return [SeriesRow(name, subject, modality, matrix, spacing, *outcome)]


def _read(
    listed: Listed, name: str, subject: str, readers: tuple[Conversion, Sequences], keep: Keep
) -> Outcome:
    """One scan as a case, and what was corrected on the way from DICOM.

    Raises:
        DataError: for anything that is wrong with this scan, expected or not.
    """
    with of_scan(name):
        scan, notes = readers[0].ready(listed, name)
        case = examine(readers[1].ready(scan, name), name, subject, keep)
    if listed.known is None:
        return case, notes
    known = listed.known
    before = known.hashes if len(known.hashes) > 1 else dict.fromkeys(case.hashes, known.sha256)
    same = all(before[channel] == sha256 for channel, sha256 in case.hashes.items())
    if not same or case.label_sha256 != known.label_sha256:
        raise DataError(
            "E_MANIFEST", name, "the file is not the one that was checked",
            "run medgan check again",
        )  # fmt: skip
    return (
        replace(case, healthy=known.healthy, split=known.split, sequence=known.sequence), notes,
    )  # fmt: skip


def examine(listed: Listed, case: str, subject: str, keep: Keep = lambda case, scan: None) -> Case:
    """Reads all channels of one scan and its label map to their ends.

    Args:
        listed: what to read.
        case: its pseudonym.
        subject: likewise.
        keep: receives what was read.

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
    scan = check_scan(listed.images, listed.label, case)
    image, label = scan.volumes[0], scan.label
    volumes = {} if label is None else _label_volumes(label.volume)
    for note in scan.notes:
        log.warning("%s", note)
    keep(case, scan)
    return Case(
        case, subject, {name: str(path) for name, path in listed.images.items()},
        str(listed.label) if listed.label else None,
        {name: file.sha256 for name, file in scan.images.items()},
        label.sha256 if label else None,
        image.shape, image.spacing, tuple(volumes), dict(listed.covariates),
        label_mm3=tuple(volumes.values()), orientation=_orientation(image),
        voxels={name: voxel_hash(file.volume.data) for name, file in scan.images.items()},
        synthetic=any(volume.is_synthetic for volume in scan.volumes),
        noise=round(noise_level(image.data), 6),
    )  # fmt: skip


def _orientation(image: Volume) -> str:
    """Where the three array axes point: letters of Right, Left, Anterior, Posterior, ..."""
    from nibabel.orientations import aff2axcodes

    return "".join(map(str, aff2axcodes(image.affine)))


def _label_volumes(label: Volume) -> dict[int, float]:
    """mm^3 of each label value that is present, without background."""
    voxel = math.prod(label.spacing)
    values, counts = np.unique(label.data, return_counts=True)
    return {int(v): round(n * voxel, 3) for v, n in zip(values, counts, strict=True) if v > 0}
