"""Lists and checks a data set: every file becomes a case or a refusal."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medgan.data.checks import Checked, check_image, check_label
from medgan.data.layouts import Listed, inside, licence_of, list_scans
from medgan.data.manifest import Case, Manifest, Refusal
from medgan.data.pseudonyms import Pseudonyms
from medgan.errors import DataError


def index(
    source: Path,
    pseudonyms: Pseudonyms,
    suffix: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Manifest, list[tuple[str, str, str]]]:
    """Lists and checks every scan of a data set.

    Args:
        source: a folder of NIfTI files, a Decathlon folder or `dataset.json`, a BIDS tree, a
            CSV or TSV with a column `image`, or one NIfTI file.
        pseudonyms: gives cases and subjects their public names.
        suffix: of BIDS files, such as T1w; needed where a tree holds several.
        progress: told how many of how many scans are checked.

    Returns:
        The manifest, without splits yet, and the key: case, subject and file of every scan that
        was listed, refused ones included.

    Raises:
        DataError: E_NO_SCANS when nothing is usable, E_LAYOUT when the layout is not known.
    """
    listing = list_scans(source, suffix)
    cases, refusals, key = [], [], []
    seen_names: set[str] = set()
    seen_hashes: set[str] = set()
    for number, listed in enumerate(listing):
        name = pseudonyms.case(listed.name)
        key.append((name, pseudonyms.subject(listed.subject), str(listed.image)))
        try:
            if name in seen_names:
                raise DataError("E_DUPLICATE", name, "two scans have this name", "rename one")
            seen_names.add(name)
            case = _examine(listed, name, pseudonyms.subject(listed.subject))
            if case.sha256 in seen_hashes:
                raise DataError(
                    "E_DUPLICATE", name, "same content as an earlier scan", "leave one out"
                )
            seen_hashes.add(case.sha256)
            cases.append(case)
        except DataError as error:
            refusals.append(Refusal(name, error.code, error.what, error.remedy))
        progress(number + 1, len(listing))
    return Manifest(tuple(cases), tuple(refusals), licence_of(source)), key


def _examine(listed: Listed, case: str, subject: str) -> Case:
    for path in (listed.image, listed.label):
        if listed.root and path and not inside(path, listed.root):
            raise DataError(
                "E_OUTSIDE", case, "a link leads out of the data folder", "copy the file into it"
            )
    image = check_image(listed.image, case)
    label: Checked | None = None
    if listed.label is not None:
        label = check_label(listed.label, case, image)
    volumes = {} if label is None else _label_volumes(label)
    return Case(
        case, subject, str(listed.image), str(listed.label) if listed.label else None,
        image.sha256, label.sha256 if label else None,
        image.shape, image.spacing, tuple(volumes), dict(listed.covariates),
        label_mm3=tuple(volumes.values()),
    )  # fmt: skip


def _label_volumes(label: Checked) -> dict[int, float]:
    """mm^3 of each label value that is present, without background."""
    voxel = math.prod(label.spacing)
    values, counts = np.unique(label.data, return_counts=True)
    return {int(v): round(n * voxel, 3) for v, n in zip(values, counts, strict=True) if v > 0}
