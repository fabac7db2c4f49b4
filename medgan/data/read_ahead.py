"""Scans that are read in threads while the ones before them are still looked at."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from medgan.core.nifti import MAX_BYTES
from medgan.core.system import core_limit, free_ram

Item = TypeVar("Item")
Result = TypeVar("Result")
_MOST = 8
_BYTES_EACH = 2 * MAX_BYTES
"""Free memory for each thread: what the largest scan that is read takes on its way."""


def threads_for_reading() -> int:
    """Scans that are read at a time, by cores and free memory."""
    return max(1, min(_MOST, core_limit(), free_ram() // _BYTES_EACH))


class ReadAhead(Generic[Item, Result]):
    """Does work on an item, and begins it for those that follow; to be closed at the end.

    For unpacking, sorting and hashing, which let other threads run.

    Args:
        work: on an item; what it raises comes with the item's turn.
        may_begin: whether the work on an item may begin before its turn.
        threads: items worked on at a time; 1 does everything in turn.
    """

    def __init__(
        self, work: Callable[[Item], Result], may_begin: Callable[[Item], bool], threads: int
    ) -> None:
        self._work, self._may_begin, self._threads = work, may_begin, threads
        self._pool = ThreadPoolExecutor(threads)
        self._begun: dict[
            int, tuple[Item, Future[Result]]
        ] = {}  # kept, so that no other has its id

    def __call__(self, item: Item, following: Iterable[Item] = ()) -> Result:
        """The result for an item.

        Args:
            item: whose turn it is.
            following: the items after it, which have to be kept until their turns.
        """
        if self._threads < 2:
            return self._work(item)
        for one in (item, *islice(following, self._threads)):
            if id(one) not in self._begun and self._may_begin(one):
                self._begun[id(one)] = one, self._pool.submit(self._work, one)
        begun = self._begun.pop(id(item), None)
        return self._work(item) if begun is None else begun[1].result()

    def close(self) -> None:
        """Begins nothing more, and waits for what has begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)
