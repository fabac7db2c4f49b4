"""DICOM: a folder or one file, handed over as it is; the series in it are found later."""

from pathlib import Path

from medgan.data.dicom.files import looks_like_dicom
from medgan.data.layouts.files import files_below, is_nifti
from medgan.data.layouts.listed import Listed, Selection
from medgan.data.manifest import IMAGE


def matches(source: Path) -> bool:
    """Whether this is a DICOM file, or a folder of DICOM without NIfTI."""
    if not source.is_dir():
        return looks_like_dicom(source)
    return holds_dicom(source) and not any(is_nifti(path) for path in files_below(source))


def holds_dicom(folder: Path) -> bool:
    """Whether any file below a folder is DICOM."""
    return any(looks_like_dicom(path) for path in files_below(folder) if not is_nifti(path))


def list_scans(source: Path, selection: Selection) -> list[Listed]:
    """The folder or file itself; headers say which series and subjects are in it."""
    del selection
    root = source if source.is_dir() else None
    return [Listed(source.name, "", {IMAGE: source}, root=root)]
