"""Zip files of DICOM, unpacked under names of our own and never beyond a limit."""

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from medgan.deployment.serving.refusals import Refused, too_large

MOST_FILES = 10_000
_MOST_DIRECTORY = 4 * 2**20
"""Bytes of the list of files, which Python's reader takes into memory as a whole."""
_END, _END_SIZE, _COMMENT = b"PK\x05\x06", 22, 2**16
_LOCATOR_SIZE = 20
"""Of what announces ZIP64, before the end record."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 2**18


def unpack(archive: Path, folder: Path, most_bytes: int) -> None:
    """Writes the files of an archive as `00001.dcm`, ... into a folder.

    Names in the archive are checked and not used. Sizes that it states are not believed: what
    comes out is counted.

    Args:
        archive: a zip file.
        folder: empty; receives the files.
        most_bytes: of all files together.

    Raises:
        Refused: E_ARCHIVE, 422; E_UPLOAD, 413.
    """
    _check_directory(archive)
    left = most_bytes
    try:
        with zipfile.ZipFile(archive) as packed:
            files = [one for one in packed.infolist() if not one.is_dir()]
            _check_entries(files)
            if sum(one.file_size for one in files) > most_bytes:
                raise too_large(f"it unpacks to more than {most_bytes // 2**20} MB")
            for number, one in enumerate(files, start=1):
                left = _extract(packed, one, folder / f"{number:05d}.dcm", left)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        raise _refused("it is damaged", "pack the files again") from None
    except (ValueError, UnicodeError, OverflowError):
        raise _refused("it makes no sense", "pack the files again") from None


def _extract(packed: zipfile.ZipFile, one: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Writes one file; what is left of the limit afterwards."""
    with packed.open(one) as source, path.open("wb") as target:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise too_large("it unpacks to more than it says")
            target.write(chunk)
    return left


def _check_entries(files: list[zipfile.ZipInfo]) -> None:
    if not files or len(files) > MOST_FILES:
        raise _refused(f"it holds {len(files)} files", f"pack one series, 1 to {MOST_FILES} files")
    for one in files:
        parts = PurePosixPath(one.filename.replace("\\", "/")).parts
        if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
            raise _refused("a name in it leads out of it", "pack the folder of the series again")
        if one.flag_bits & 1:
            raise _refused("it is encrypted", "pack the files without a password")
        if one.compress_type not in _METHODS:
            raise _refused("its compression is not read", "pack the files with deflate")


def _check_directory(archive: Path) -> None:
    """Refuses a list of files that would fill the memory, found as Python's reader finds it."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - _COMMENT - _END_SIZE - _LOCATOR_SIZE))
        tail = file.read()
    at = len(tail) - _END_SIZE if tail[-_END_SIZE:-18] == _END else tail.rfind(_END)
    record = tail[at : at + _END_SIZE] if at >= 0 else b""
    if len(record) < _END_SIZE:
        raise _refused("it is cut off or no zip", "pack the files again")
    if b"PK\x06\x07" in tail:
        raise _refused("it is of the kind for huge archives", "pack one series, without ZIP64")
    if int.from_bytes(record[12:16], "little") > _MOST_DIRECTORY:
        raise _refused("it lists too many files", f"pack one series, 1 to {MOST_FILES} files")


def _refused(what: str, remedy: str) -> Refused:
    return Refused(422, "E_ARCHIVE", "the archive", what, remedy)
