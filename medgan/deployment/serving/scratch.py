"""A private temporary folder; what a killed server left goes at the next start."""

import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from medgan.core.files import disk_failure

PREFIX = "medgan-serve-"
_LOCK = ".lock"


class Scratch:
    """A folder that only its owner may read, for as long as the context lasts.

    Args:
        parent: where it is made; the system's folder of temporary files unless given.

    Raises:
        EnvironmentFailure: E_DISK.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = Path(tempfile.gettempdir()) if parent is None else parent
        sweep(self._parent)
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))
            self._lock = FileLock(self.folder / _LOCK, timeout=0)
            self._lock.acquire()
        except OSError as error:
            raise disk_failure(self._parent, error) from None

    def new_folder(self) -> Path:
        """An empty folder inside, under a random name; whoever asked removes it."""
        made = self.folder / secrets.token_hex(8)
        try:
            made.mkdir(mode=0o700)
        except OSError as error:
            raise disk_failure(made, error) from None
        return made

    def touch(self) -> None:
        """Keeps it from looking old: systems delete temporary files that nobody uses for days."""
        for path in (self.folder, self.folder / _LOCK):
            with suppress(OSError):
                os.utime(path)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
        remove(self.folder)


def remove(folder: Path) -> None:
    """Removes a folder and all in it, also when it is gone already."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Removes folders of servers that are no more: nobody holds their locks."""
    for folder in parent.glob(f"{PREFIX}*"):
        lock = folder / _LOCK
        try:
            if folder.is_symlink() or not lock.is_file():
                continue
            with FileLock(lock, timeout=0):
                pass
        except (OSError, Timeout):  # another's, or at work
            continue
        remove(folder)
