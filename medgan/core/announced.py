"""What a scan announces before it is read, and memory for it: no file takes more than there is."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from medgan.core.errors import DataError
from medgan.core.system import free_ram

MAX_FOLD = 250
"""Bytes in memory of an image for each byte of its files, at most. 840 images of seven public data
sets take up to 40; their label maps take up to 3,160 and are bounded by their images instead."""
SMALL = 3 * 2**25
"""Bytes of voxels in memory that every file may announce."""
_TRIFLE = 2**26
"""A reading that takes less than this does not wait for others."""


class Announced(NamedTuple):
    """What a header says of its voxels.

    Attributes:
        shape: array axes.
        end: bytes of the unpacked file up to the end of the voxels.
        in_memory: bytes of the voxels in memory.
        stored: bytes of the file as it is on disk.
    """

    shape: tuple[int, ...]
    end: int
    in_memory: int
    stored: int


Look = Callable[[Announced], None]
"""Looks at what a file announces before it is unpacked, and refuses it by an error."""


def refuse_bomb(in_memory: int, stored: int, case: str) -> None:
    """Refuses an image that would become many times as large as its files.

    Args:
        in_memory: bytes of its voxels in memory.
        stored: bytes of its files.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: E_SIZE.
    """
    if in_memory > max(SMALL, MAX_FOLD * stored):
        raise DataError(
            "E_SIZE", case, f"it would take {in_memory / max(stored, 1):.0f} times the memory of "
            "its file, which no scan does", "leave it out, or save it uncompressed if it is a scan",
        )  # fmt: skip


class ReadingMemory:
    """The free memory, of which each reading takes its part before it unpacks anything.

    Args:
        free: gives the bytes that are free.
    """

    def __init__(self, free: Callable[[], int] = free_ram) -> None:
        self._free, self._taken = free, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int, case: str) -> Iterator[None]:
        """Waits until other readings leave room for this one.

        Args:
            size: bytes that it takes at most.
            case: the pseudonym under which an error names it.

        Raises:
            DataError: E_MEMORY where it would not fit alone.
        """
        if size < _TRIFLE:
            yield
            return
        with self._changed:
            while self._taken and self._taken + size > self._free():
                self._changed.wait(1.0)
            if size > self._free():
                raise DataError(
                    "E_MEMORY", case, f"reading it takes {size / 2**30:.1f} GiB, more than is free",
                    "crop or resample it, or use a larger machine",
                )  # fmt: skip
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


MEMORY = ReadingMemory()
"""That of this process."""
