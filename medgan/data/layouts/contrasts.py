"""Loose files of one patient that differ by the contrast in their names alone."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.core.errors import DataError
from medgan.data.layouts.files import is_nifti, stem
from medgan.data.layouts.listed import Selection
from medgan.data.manifest import IMAGE

log = logging.getLogger(__name__)
_KIND = (
    r"(?:t1|t1w|t1n|t1c|t1ce|t1gd|t1km|t2|t2w|t2f|t2s|t2star|flair|pd|pdw|dwi|adc|swi|swan|asl|cbf"
    r"|mra|ct|cbct|pet|suv|mr|mri)"
)
_LAST = re.compile(rf"(?:^|[_\-. ])({_KIND}(?:[_\-. ]?(?:pre|post|ce|gd))?)$", re.IGNORECASE)
_FIRST = re.compile(rf"^({_KIND}(?:[_\-. ]?(?:pre|post|ce|gd))?)[_\-. ]", re.IGNORECASE)


@dataclass(frozen=True)
class Patient:
    """Images of one folder whose names differ by a contrast alone.

    Attributes:
        name: what the file names share; that of the folder where they share nothing.
        images: by contrast, as the files spell it.
    """

    name: str
    images: dict[str, Path]


def by_contrast(images: Iterable[Path]) -> list[Patient]:
    """The images whose names begin or end with a contrast (T1, flair, t1ce, CT), by patient.

    Names such as `p1_t1`, `T2-p1` and `flair` are known, with one contrast or several a patient.
    """
    found: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    twice: list[Patient] = []  # .nii beside .nii.gz
    for path in images:
        name = stem(path)
        if is_nifti(path) and (match := _LAST.search(name) or _FIRST.search(name)):
            rest = name[: match.start()] or name[match.end() :]
            named = found[path.parent, rest]
            if match[1].casefold() in map(str.casefold, named):
                twice.append(Patient(rest or path.parent.name, {match[1]: path}))
            else:
                named[match[1]] = path
    return [Patient(rest or parent.name, named) for (parent, rest), named in found.items()] + twice


def several_contrasts(patients: Sequence[Patient]) -> bool:
    """Whether a patient has images of several contrasts, which are no patients of their own."""
    return any(len({name.casefold() for name in one.images}) > 1 for one in patients)


def of_selection(patients: Sequence[Patient], selection: Selection) -> list[Patient]:
    """The patients with those images that are asked for, under the names that ask for them.

    Args:
        patients: with images of several contrasts.
        selection: `channels` or `suffix` choose; capitals do not matter.

    Raises:
        DataError: E_SUFFIX where nothing is chosen, E_CHANNEL where no image is what was chosen.
    """
    wanted = selection.channels if selection.channels != (IMAGE,) else ()
    spelt = {name.casefold(): name for one in patients for name in one.images}
    kinds = [spelt[name] for name in sorted(spelt)]
    if not wanted and not selection.suffix:
        raise DataError(
            "E_SUFFIX", "data.source", f"several scans of one patient: {', '.join(kinds)}",
            f"choose one with --set data.suffix={kinds[0]}, or name the channels of a scan with "
            f"--set 'data.channels=[{kinds[0]}, {kinds[1]}]'; where they are different patients, "
            "list them in a CSV",
        )  # fmt: skip
    asked = {name.casefold(): name for name in wanted or (selection.suffix,)}
    if unknown := [name for folded, name in asked.items() if folded not in spelt]:
        raise DataError(
            "E_CHANNEL", "data.channels" if wanted else "data.suffix",
            f"no scan is {', '.join(unknown)}", f"choose among {', '.join(kinds)}",
        )  # fmt: skip
    chosen = [
        Patient(one.name, {asked[name]: there[name] for name in asked if name in there})
        for one in patients
        for there in [{name.casefold(): path for name, path in one.images.items()}]
    ]
    if wanted:
        return [one for one in chosen if one.images]
    return [Patient(one.name, {IMAGE: path}) for one in chosen for path in one.images.values()]


def warn_of_others(images: Iterable[Path], patients: Sequence[Patient]) -> None:
    """Says how many images have no contrast in their names, and so can be no one's channel."""
    known = {path for one in patients for path in one.images.values()}
    if others := sum(is_nifti(path) and path not in known for path in images):
        log.warning("%d files have no contrast in their names and are left out", others)
