"""What is refused, and why: every file is read to its end once before anything uses it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.core.affine import check_affine
from medgan.core.announced import Announced, refuse_bomb
from medgan.core.errors import DataError, Note
from medgan.core.nifti import NiftiFile, read_nifti
from medgan.core.volume import Volume

_LARGEST = 1e30
"""Of an intensity. Converters fill missing voxels with the largest float32, 3.4e38."""
LABEL_ROUNDING = 0.01
"""Label values this near to a whole number are that number: converters leave rounding errors."""


class CheckedScan(NamedTuple):
    """The files of one scan, each read and checked once.

    Attributes:
        images: by the name of their channel, in the order of the channels, on one grid.
        label: the label map on the same grid, or None.
    """

    images: dict[str, NiftiFile]
    label: NiftiFile | None = None

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """The channels, in their own grid and intensities."""
        return tuple(file.volume for file in self.images.values())

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and used all the same."""
        files = [*self.images.values(), *([self.label] if self.label else [])]
        return tuple(dict.fromkeys(note for file in files for note in file.notes))


def check_scan(images: Mapping[str, Path], label: Path | None, case: str) -> CheckedScan:
    """Reads all files of a scan and refuses what a network must not see.

    Args:
        images: .nii or .nii.gz file of each channel, by its name.
        label: file of the label map, or None.
        case: the pseudonym under which an error or a note names it.

    Raises:
        DataError: E_CHANNEL_GRID, or any of `check_image`'s and `check_label`'s.
    """
    files = {name: check_image(path, case) for name, path in images.items()}
    require_one_grid({name: file.volume for name, file in files.items()}, case)
    first = next(iter(files))
    labels = None if label is None else check_label(label, case, files[first].volume)
    return CheckedScan(files, labels)


def require_one_grid(volumes: Mapping[str, Volume], case: str) -> None:
    """Refuses channels that lie on different grids.

    Args:
        volumes: by the names of their channels.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: E_CHANNEL_GRID.
    """
    first, *others = volumes
    for name in others:
        if not same_grid(volumes[name], volumes[first]):
            raise DataError(
                "E_CHANNEL_GRID", case, f"{name} and {first} lie on different grids",
                "register and resample the channels to one grid",
            )  # fmt: skip


def check_image(path: Path, case: str) -> NiftiFile:
    """Reads a scan and refuses what a network must not see.

    Args:
        path: a .nii or .nii.gz file.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: with a code that says what is wrong; the text never holds the path.
    """
    file = read_nifti(path, case, lambda found: refuse_bomb(found.in_memory, found.stored, case))
    _check_voxels(file.volume.data, case)
    return file


def check_volume(volume: Volume, case: str) -> None:
    """The same for a scan in memory.

    Raises:
        DataError: E_DIMENSIONS, E_AFFINE, E_SPACING, E_NAN or E_CONSTANT.
    """
    if volume.data.ndim != 3 or 1 in volume.data.shape:
        raise DataError(
            "E_DIMENSIONS", case, f"shape {volume.data.shape}", "give one 3D volume (X, Y, Z)"
        )
    check_affine(np.asarray(volume.affine, dtype=float), case)
    _check_voxels(volume.data, case)


def _check_voxels(data: np.ndarray, case: str) -> None:
    bad = int(np.size(data) - ((data > -_LARGEST) & (data < _LARGEST)).sum())
    if bad:
        raise DataError(
            "E_NAN", case, f"voxels not finite or beyond {_LARGEST:g}: {bad}",
            "export the scan again",
        )  # fmt: skip
    if data.min() == data.max():
        raise DataError("E_CONSTANT", case, "all voxels are equal", "leave the scan out")


def check_label(path: Path, case: str, image: Volume) -> NiftiFile:
    """Reads a label map and refuses one that does not fit its image.

    Values within `LABEL_ROUNDING` of a whole number are rounded, with a note.

    Args:
        path: a .nii or .nii.gz file.
        case: the pseudonym under which an error names it.
        image: the scan that it labels.

    Returns:
        The label map; its volume holds whole numbers.

    Raises:
        DataError: E_LABEL_GRID, E_LABEL_VALUE or any of `check_image`'s that concern the file.
    """
    elsewhere = DataError(
        "E_LABEL_GRID", case, "label and image lie on different grids", "resample the label"
    )

    def look(found: Announced) -> None:  # what its image did not take, it does not take either
        if math.prod(found.shape) != image.data.size:
            raise elsewhere

    file = read_nifti(path, case, look)
    if not same_grid(file.volume, image):
        raise elsewhere
    values = np.unique(file.volume.data)
    whole = np.isfinite(values).all() and np.abs(values - np.rint(values)).max() <= LABEL_ROUNDING
    if not whole or values[0] < -LABEL_ROUNDING or values[-1] > 65535 + LABEL_ROUNDING:
        raise DataError(
            "E_LABEL_VALUE", case, "label values are not whole numbers from 0", "export it again"
        )
    if (values == np.rint(values)).all():
        return file
    rounded = file.volume.like(np.rint(file.volume.data))
    note = Note("W_LABEL_VALUE", case, "label values have rounding errors", "they were rounded")
    return NiftiFile(rounded, file.sha256, (*file.notes, note))


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether two volumes have the same shape and lie within a tenth of a voxel of each other."""
    return a.data.shape == b.data.shape and _corner_distance(a, b) <= 0.1 * min(b.spacing)


def _corner_distance(a: Volume, b: Volume) -> float:
    """Largest distance in mm between the same corner voxels of two grids of one shape."""
    last = np.array(a.data.shape) - 1
    corners = np.array([[*(c * last), 1] for c in np.ndindex(2, 2, 2)])
    apart = (corners @ (a.affine - b.affine).T)[:, :3]
    return float(np.linalg.norm(apart, axis=1).max())
