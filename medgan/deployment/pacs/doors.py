"""Where results go: what every door to a PACS promises, and what peers answer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

Read = TypeVar("Read")
TIMEOUT = 30.0
"""Seconds to wait for a peer."""
Note = Callable[[Path, str], None]
"""Receives a file that was answered, and why it was refused; empty where it was stored."""


class PeerDown(Exception):
    """A peer that cannot be reached or is busy; the same may work later."""


class Unwanted(str):
    """A refusal that will be the same next time, such as of a class that the peer does not know."""

    __slots__ = ()


class Door(Protocol):
    """Where results go."""

    def send(self, files: Sequence[Path], note: Note) -> None:
        """Sends files, one by one; each is noted as soon as it is answered.

        Raises:
            PeerDown: the rest was not sent.
        """
        ...


def readable(
    files: Iterable[Path], read: Callable[[Path], Read], note: Note
) -> Iterator[tuple[Path, Read]]:
    """What is read of each file; one that cannot be read is noted, and does not stop the others."""
    for path in files:
        try:
            found = read(path)
        except Exception as error:  # pydicom's, of any kind
            note(path, f"its file cannot be read ({type(error).__name__})")
        else:
            yield path, found
