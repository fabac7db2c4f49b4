"""Which files are DICOM, or may have been."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
PREAMBLE = 128
"""Bytes before the letters DICM."""


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keeps pydicom's messages off the terminal: they quote what headers say."""
    logger = logging.getLogger("pydicom")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def is_dicom(path: Path) -> bool:
    """Whether a plain file begins as DICOM does, with its preamble or, as old ones, without.

    Without a preamble any bytes might look like a first element, so the name must not say
    that they are something else.
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
    """Whether a file is DICOM or claims so by its name: a damaged one must not go missing."""
    return (path.suffix.lower() in DICOM_SUFFIXES and path.is_file()) or is_dicom(path)


def looks_lost(path: Path) -> bool:
    """Whether a file may be what a broken transfer left of DICOM.

    It is empty, ends within the preamble, begins with nothing but zeros, or may not be read. Only
    beside DICOM does that say anything.
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
