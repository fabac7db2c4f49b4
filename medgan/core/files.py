"""Files that are whole or absent, whatever happens while they are written."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from medgan.core.errors import EnvironmentFailure


def write_atomic(path: Path, data: bytes | str, private: bool = False) -> None:
    """Writes aside, flushes to the disk, then renames.

    Args:
        path: its folder is made if missing.
        data: bytes, or text that becomes UTF-8.
        private: readable by the owner only.

    Raises:
        EnvironmentFailure: E_DISK when the disk is full or cannot be written; an older file of
            this name stays as it was.
    """
    write_together({path: data}, private)


def write_together(files: Mapping[Path, bytes | str], private: bool = False) -> None:
    """Writes files that belong together: all are on the disk before the first is renamed.

    Args:
        files: path to content, the one that vouches for the others last.
        private: readable by the owner only.

    Raises:
        EnvironmentFailure: E_DISK; no file has been replaced.
    """
    aside = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            _write_aside(path, aside[path], data, private)
        for path, temporary in aside.items():
            temporary.replace(path)
        for folder in {path.parent for path in files}:
            _flush_folder(folder)
    except OSError as error:
        for temporary in aside.values():
            with suppress(OSError):
                temporary.unlink()
        raise disk_failure(path, error) from None


def _write_aside(path: Path, temporary: Path, data: bytes | str, private: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(temporary, flags, 0o600 if private else 0o666), "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-written; the folder must be `locked`."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def disk_failure(path: Path, error: OSError) -> EnvironmentFailure:
    """The error of a file that could not be written."""
    return EnvironmentFailure(
        "E_DISK", path.name, f"not written ({(error.strerror or 'unknown').lower()})",
        "free some space or choose another folder, then run the same command again",
    )  # fmt: skip


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds a folder for this process; another one that wants it waits or is refused.

    Raises:
        EnvironmentFailure: E_BUSY, E_DISK.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise disk_failure(folder, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            raise EnvironmentFailure(
                "E_BUSY", str(folder), "another medgan writes here",
                "wait for it or choose another folder",
            ) from None  # fmt: skip
        yield
