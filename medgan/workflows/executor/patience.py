"""How long a case may take before its worker counts as hung."""

import time
from collections.abc import Callable

_AT_FIRST, _LEAST = 3600.0, 900.0
"""Seconds that a case may take while none is done, and may always take."""
_TIMES = 50
"""Times the longest case so far."""
MOST_HUNG = 2
"""Times that a case may hang; then it is refused."""


class Patience:
    """A limit for each case, which grows with what the longest one has taken.

    A case of seconds has a quarter of an hour, one of minutes has hours: a machine that is slow, or
    used by others, hangs nothing.

    Args:
        minutes: the limit; 0 takes one from the cases that are done.
        clock: gives seconds; it never goes back.
    """

    def __init__(self, minutes: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._minutes, self.clock, self._longest = minutes, clock, 0.0
        self._hung: dict[str, int] = {}

    @property
    def seconds(self) -> float:
        """That a case may take."""
        if self._minutes:
            return 60 * self._minutes
        return max(_LEAST, _TIMES * self._longest) if self._longest else _AT_FIRST

    def done(self, since: float) -> None:
        """Takes note of a case that was begun then and is done now."""
        self._longest = max(self._longest, self.clock() - since)

    def left(self, since: float) -> float:
        """Seconds that a case which was begun then still has; below 0, none."""
        return since + self.seconds - self.clock()

    def hung(self, name: str) -> bool:
        """Takes note of a case that took too long; whether that was once too often."""
        self._hung[name] = self._hung.get(name, 0) + 1
        return self._hung[name] >= MOST_HUNG
