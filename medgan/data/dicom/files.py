"""Which files are DICOM, or damaged DICOM."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
PREAMBLE = 128
"""Bytes before the letters DICM."""
DEFLATED = "1.2.840.10008.1.2.1.99"


def read_meta(file: BytesIO | BufferedReader) -> "Dataset":
    """The elements of group 2 before a data set, as pydicom finds them, with a preamble or without.

    Tells whether a file is `DEFLATED` before pydicom reads it: that may unpack kilobytes to any
    amount of memory.
    """
    from pydicom.filereader import (
        _read_file_meta_info,  # pyright: ignore[reportPrivateUsage] - the same as dcmread's
        read_preamble,
    )

    read_preamble(file, force=True)
    return _read_file_meta_info(file)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silences messages of pydicom: they quote headers."""
    logger = logging.getLogger("pydicom")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def is_dicom(path: Path) -> bool:
    """Whether a file begins like DICOM, with a preamble or, as old files, without.

    Without a preamble any bytes may look like a first element, so the name must be one of DICOM.
    """
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(PREAMBLE + 4)
    except OSError:
        return False
    if start[PREAMBLE:] == b"DICM":
        return True
    named = _has_dicom_name(path)
    group, element = start[:2], int.from_bytes(start[2:4], "little")
    if not named or group not in (b"\x02\x00", b"\x08\x00") or element > 0x18:
        return False
    length = int.from_bytes(start[4:8], "little")
    explicit = start[4:6] in (b"UL", b"CS", b"UI", b"DA", b"OB", b"SH", b"LO")
    return explicit or (0 < length <= 128 and length % 2 == 0)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content or its name; damaged files are to be reported."""
    return (path.suffix.lower() in DICOM_SUFFIXES and path.is_file()) or is_dicom(path)


def may_be_damaged_dicom(path: Path) -> bool:
    """Whether a file may be DICOM from a broken transfer.

    It is empty, ends within the preamble, begins with zeros only, or may not be read. This says
    something only of files in a folder with DICOM.
    """
    try:
        if not path.is_file() or not _has_dicom_name(path):
            return False
        with path.open("rb") as file:
            return not any(file.read(PREAMBLE + 4))
    except OSError:
        return True


def _has_dicom_name(path: Path) -> bool:
    return not path.suffix or path.suffix.lower() in DICOM_SUFFIXES or path.suffix[1:].isdigit()
