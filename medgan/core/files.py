"""Files that are written completely or not at all, their hashes, and locks of folders."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from medgan.core.errors import EnvironmentFailure

_UNFINISHED = re.compile(r"\..*\.tmp|\.\d+\..*\.nii(\.gz)?")
"""Temporary names of `write_atomic` and of `Volume.save`."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes | str, private: bool = False) -> None:
    """Writes a temporary file, flushes it to the disk and renames it.

    Args:
        path: its folder is made if missing.
        data: bytes, or text that becomes UTF-8.
        private: readable by the owner only.

    Raises:
        EnvironmentFailure: E_DISK when the disk is full or cannot be written; an older file of
            this name is kept.
    """
    write_together({path: data}, private)


def write_together(files: Mapping[Path, bytes | str], private: bool = False) -> None:
    """Writes files that belong together: all are on the disk before the first is renamed.

    Args:
        files: path to content, the one that refers to the others last.
        private: readable by the owner only.

    Raises:
        EnvironmentFailure: E_DISK; no file has been replaced.
    """
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            _write_temporary(path, temporaries[path], data, private)
        for path, temporary in temporaries.items():
            temporary.replace(path)
        for folder in {path.parent for path in files}:
            flush_folder(folder)
    except OSError as error:
        raise disk_failure(path, error) from None
    finally:
        for temporary in temporaries.values():
            with suppress(OSError):
                temporary.unlink()


def _write_temporary(path: Path, temporary: Path, data: bytes | str, private: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(temporary, flags, 0o600 if private else 0o666), "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


def flush(path: Path) -> None:
    """Waits until the content of a file is on the disk.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    try:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_failure(path, error) from None


def flush_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Removes incomplete files of killed processes; the folder must be `locked`."""
    for path in folder.rglob(".*"):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


def disk_failure(path: Path, error: OSError) -> EnvironmentFailure:
    """The error of a file that could not be written."""
    return EnvironmentFailure(
        "E_DISK", path.name, f"not written ({(error.strerror or 'unknown').lower()})",
        "free some space or choose another folder, then run the same command again",
    )  # fmt: skip


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Locks a folder for this process; any other waits or is refused.

    Raises:
        EnvironmentFailure: E_BUSY, E_DISK.
    """
    lock = FileLock(folder / ".lock", timeout=-1 if wait else 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise EnvironmentFailure(
            "E_BUSY", str(folder), "another medgan process writes here",
            "wait for it or choose another folder",
        ) from None  # fmt: skip
    except OSError as error:
        raise disk_failure(folder, error) from None
    try:
        yield
    finally:
        lock.release()
