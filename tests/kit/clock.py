"""A clock that cannot be trusted."""

import itertools
import time

DAY = 86_400.0


def jumping_clock(monkeypatch) -> list[int]:
    """Sets the clock a day forward, back and right from one look at it to the next.

    Clocks that only run forward (`time.monotonic`) stay as they are.

    Returns:
        A 1 for each look at it.
    """
    real, days, looks = time.time, itertools.cycle((0, 1, -1)), []

    def jumps() -> float:
        looks.append(1)
        return real() + DAY * next(days)

    monkeypatch.setattr(time, "time", jumps)
    return looks
