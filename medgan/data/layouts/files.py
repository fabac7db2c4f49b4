"""NIfTI files and links below a folder."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from medgan.core.errors import DataError

SUFFIXES = (".nii", ".nii.gz")


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz, in any capitals."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def is_nifti(path: Path) -> bool:
    """Whether a file is a NIfTI file by its name."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def files_below(folder: Path) -> list[Path]:
    """Files in a folder and below, without hidden ones.

    A folder that cannot be opened, or is a link out of this one, is in the list itself: its scans
    cannot be seen, so it is refused later.
    """
    root = folder.resolve()
    found: list[Path] = []

    def note(error: OSError) -> None:
        found.append(Path(error.filename))

    for parent, folders, names in os.walk(folder, onerror=note):
        here = Path(parent)
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [here / name for name in folders if (here / name).is_symlink()]
        found += [path for path in linked if not inside(path, root)]
        found += [here / name for name in names if not name.startswith(".")]
    return sorted(found)


def scans_below(folder: Path) -> list[Path]:
    """NIfTI files; a link that leads nowhere or out of the folder is listed, to be refused."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in files_below(folder)
        if path.is_dir() or (is_nifti(path) and (path.is_file() or path.is_symlink()))
    ]


def inside(path: Path, root: Path) -> bool:
    """Whether a file is in a folder, or in the git-annex that keeps the folder's contents."""
    target = Path(os.path.realpath(path))
    annexes = (parent / ".git" / "annex" for parent in root.parents)
    return any(target.is_relative_to(allowed) for allowed in (root, *annexes))


def leads_out(named: Iterable[tuple[str, Path]], folder: Path) -> bool:
    """Whether a relative name in the description of a data set leads out of its folder.

    An absolute path says where it leads, as those of scans that are not copied into an augmented
    data set; `..` and links do not.

    Args:
        named: files, each as the description spells it and as a path.
        folder: of the description.
    """
    return any(not Path(name).is_absolute() and not inside(path, folder) for name, path in named)


def outside() -> DataError:
    """The error of a scan that such a name belongs to."""
    return DataError(
        "E_OUTSIDE", "", "its path leads out of the data folder",
        "copy the file into it, or list the scans in a CSV",
    )  # fmt: skip
