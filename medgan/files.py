"""Files that are whole or absent, whatever happens while they are written."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medgan.errors import EnvironmentFailure


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666
        )
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise disk_failure(path, error) from None


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
