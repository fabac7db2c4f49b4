"""One NIfTI file."""

from pathlib import Path

from medgan.data.layouts.files import is_nifti, stem
from medgan.data.layouts.listed import Listed, Selection, subject_of
from medgan.data.manifest import IMAGE


def matches(source: Path) -> bool:
    """Whether this is a NIfTI file by its name."""
    return source.is_file() and is_nifti(source)


def list_scans(source: Path, selection: Selection) -> list[Listed]:
    """The file as a data set of one scan."""
    del selection
    return [Listed(stem(source), subject_of(stem(source)), {IMAGE: source})]
