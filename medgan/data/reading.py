"""The files of a case of the manifest, read and checked once."""

from pathlib import Path

from medgan.core.errors import DataError
from medgan.data.checks import CheckedScan, check_scan
from medgan.data.manifest import Case


def read_case(case: Case, labels: bool = True) -> CheckedScan:
    """Reads all files of a case and checks that they are those of the manifest.

    Args:
        case: from a manifest.
        labels: whether its label map is read, if it has one.

    Raises:
        DataError: E_MANIFEST when a file has changed, or why it is refused.
    """
    label = Path(case.label) if case.label and labels else None
    images = {name: Path(path) for name, path in case.images.items()}
    scan = check_scan(images, label, case.case)
    changed = {name: file.sha256 for name, file in scan.images.items()} != case.hashes
    if changed or (scan.label and scan.label.sha256 != case.label_sha256):
        raise DataError(
            "E_MANIFEST", case.case, "the file is not the one that was checked",
            "run medgan check again",
        )  # fmt: skip
    return scan
