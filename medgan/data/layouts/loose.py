"""Loose NIfTI files: a folder, or folders of folders, without a description."""

import os
from collections import Counter
from pathlib import Path

from medgan.core.errors import DataError
from medgan.data.layouts.contrasts import (
    Patient,
    by_contrast,
    of_selection,
    several_contrasts,
    warn_of_others,
)
from medgan.data.layouts.dicom import holds_dicom
from medgan.data.layouts.files import is_nifti, scans_below, stem
from medgan.data.layouts.label_files import (
    LABEL_FOLDERS,
    LABEL_MARK,
    warn_of_unused,
    without_mark,
)
from medgan.data.layouts.listed import Listed, Selection, subject_of, with_plain_names
from medgan.data.layouts.nnunet import CHANNEL_NUMBER
from medgan.data.layouts.phases import as_sequences
from medgan.data.manifest import IMAGE

IMAGE_FOLDERS = ("images", "anat", "ses-")
"""Beginnings of folder names that name no subject."""


def matches(source: Path) -> bool:
    """Whether this is a folder; nothing else is asked of it."""
    return source.is_dir()


def list_scans(folder: Path, selection: Selection) -> list[Listed]:
    """Images anywhere below a folder, with their labels.

    Images of one patient that differ by the contrast in their names are channels of one scan, or
    one of them is chosen. Files `phase_00`, `phase_01` and on of one folder are a sequence
    (`as_sequences`).

    Labels are `<image>_label` (`_seg`, `_dseg`, `_mask`) beside the image, or have its name in a
    folder `labels` (Decathlon's `labelsTr`) beside that of the image.

    Raises:
        DataError: E_MIXED where NIfTI and DICOM lie together, E_CHANNEL where file names end in
            channel numbers outside the layout of nnU-Net, E_SUFFIX where images of one patient
            differ by the contrast in their names (`of_selection`).
    """
    files = scans_below(folder)
    labels = {
        p
        for p in files
        if LABEL_MARK.search(stem(p)) or (p.parent.name in LABEL_FOLDERS and p.parent != folder)
    }
    images = [path for path in files if path not in labels]
    if holds_dicom(folder):  # often the same scans twice, which no split may tear apart
        raise DataError(
            "E_MIXED", "the data folder", "holds NIfTI and DICOM files",
            "name a folder of one kind, or list the scans in a CSV",
        )  # fmt: skip
    _refuse_numbered_channels(images)
    known = by_contrast(images)
    chosen: list[Patient] = []
    each = images
    if several_contrasts(known) and not selection.by_place:
        chosen = of_selection(known, selection)
        warn_of_others(images, known)
        each = [path for path in images if not is_nifti(path)]  # to be refused
    patients = chosen + [Patient(stem(path), {IMAGE: path}) for path in each]
    of_image = {(p.parent, without_mark(p)): p for p in labels}
    base = folder
    if images and not selection.by_place:
        base = Path(os.path.commonpath([path.parent for path in images]))
    listing = []
    for one in patients:
        path = next(iter(one.images.values()))
        parents = (path.parent, *(path.parent.parent / d for d in LABEL_FOLDERS))
        names = dict.fromkeys([one.name, *(stem(image) for image in one.images.values())])
        labelled = (of_image.get((parent, name)) for parent in parents for name in names)
        label = next((label for label in labelled if label), None)
        unique = str(path.relative_to(folder).with_name(one.name))
        subject = _subject_at(path.with_name(one.name), base)
        listing.append(Listed(unique, subject, one.images, label, root=folder))
    warn_of_unused(labels, [listed.label for listed in listing])
    named = listing if selection.by_place else with_plain_names(listing)
    return as_sequences(named, flat=len({p.parent for p in images}) < 2)


def _refuse_numbered_channels(images: list[Path]) -> None:
    """Refuses a_0000, a_0001, b_0000, b_0001: channels or patients, names do not tell."""
    names = [(path.parent, stem(path)) for path in images if is_nifti(path)]
    numbered = [
        (p, CHANNEL_NUMBER.sub("", name)) for p, name in names if CHANNEL_NUMBER.search(name)
    ]
    counts = Counter(numbered)
    first = all((parent, f"{name}_0000") in names for parent, name in counts)
    if first and len(counts) > 1 and len(numbered) == len(names) and max(counts.values()) > 1:
        raise DataError(
            "E_CHANNEL", "the data folder", "file names end in channel numbers (_0000, _0001)",
            "put them into imagesTr as nnU-Net has them; where each file is a patient, list them "
            "in a CSV",
        )  # fmt: skip


def _subject_at(path: Path, base: Path) -> str:
    """Whose scan a file in a folder is.

    `sub-<label>` in its name says so; else, in a folder of folders, the topmost one: scans that
    lie together are never torn apart by a split. In a flat folder every file is a subject.
    """
    name = stem(path)
    folders = [
        part for part in path.relative_to(base).parts[:-1] if not part.startswith(IMAGE_FOLDERS)
    ]
    if folders and not name.startswith("sub-"):
        return subject_of(folders[0])
    return subject_of(name)
