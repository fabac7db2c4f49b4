"""Copies of real scans under their pseudonyms, without texts of their headers."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from medgan.core.volume import Volume
from medgan.data.checks import check_image, check_label
from medgan.data.manifest import IMAGE, Case
from medgan.data.reading import read_case


def save_image(case: Case, path: Path) -> Case:
    """Writes a copy with voxels and geometry, without texts and extensions of the header.

    Returns:
        The case with the copy as its image.
    """
    save_as_stored(read_case(case, labels=False).volumes[0], path)
    sha256 = check_image(path, case.case).sha256
    return replace(case, images={IMAGE: str(path.resolve())}, hashes={IMAGE: sha256})


def save_label(case: Case, path: Path) -> Case:
    """Writes the label map again, as whole numbers and with the geometry of the image.

    The two may differ by rounding, which medgan forgives and nnU-Net warns of.

    Returns:
        The case with the copy as its label.
    """
    assert case.label is not None
    kind = np.uint8 if max(case.labels, default=0) < 256 else np.uint16
    scan = read_case(case)
    assert scan.label is not None
    scan.volumes[0].like(scan.label.volume.data.astype(kind)).save(path)
    checked = check_label(path, case.case, scan.volumes[0])
    return replace(case, label=str(path.resolve()), label_sha256=checked.sha256)


def clear_copies(folder: Path, pattern: str, cases: Sequence[Case]) -> None:
    """Removes copies that an earlier run has left and no case names any longer.

    Args:
        folder: of the data set.
        pattern: of the names of copies in it.
        cases: of the data set as it is now.
    """
    wanted = {path for case in cases for path in (case.image, case.label)}
    for path in folder.resolve().glob(pattern):
        if str(path) not in wanted:
            path.unlink()
            with suppress(OSError):  # a subject's folders, where each has its own
                path.parent.rmdir()
                path.parent.parent.rmdir()


def save_as_stored(volume: Volume, path: Path, description: str = "") -> None:
    """Writes whole numbers where the file that it was read from holds such.

    Args:
        volume: as it was read, or other voxels on its grid.
        path: ends in .nii or .nii.gz.
        description: of the header.
    """
    assert volume.header is not None
    whole = np.dtype(volume.header.get_data_dtype()).kind in "iu" and not (volume.data % 1).any()
    kind = _whole_kind(volume.data) if whole else np.float32
    volume.like(volume.data.astype(kind)).save(path, description)


def _whole_kind(data: np.ndarray) -> type:
    """The smallest type of whole numbers that NIfTI readers agree on."""
    for kind in (np.uint8, np.int16):
        limits = np.iinfo(kind)
        if limits.min <= data.min() and data.max() <= limits.max:
            return kind
    return np.int32 if np.abs(data).max() < 2**24 else np.float32
