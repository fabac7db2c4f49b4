"""Progress of long jobs: a bar on a terminal, log lines elsewhere."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows progress; gives a function of the numbers done and in total.

    Args:
        what: such as "checking scans".
    """
    with _bar() as bar:
        task = bar.add_task(what, total=None)
        last_line = time.monotonic()

        def tick(done: int, total: int) -> None:
            nonlocal last_line
            bar.update(task, completed=done, total=total, description=f"{what} {done}/{total}")
            plain = bar.disable and time.monotonic() - last_line > SECONDS_BETWEEN_LINES
            if plain or (bar.disable and done == total):
                last_line = time.monotonic()
                log.info("%s %d/%d", what, done, total)

        yield tick


class TrainingProgress:
    """Shows volumes seen, volumes per second, time left and losses.

    Args:
        volumes: in total.
        seconds: time limit of the training; 0 for none.
    """

    def __init__(self, volumes: int, seconds: float) -> None:
        self._volumes, self._seconds = volumes, seconds
        self._rate = 0.0
        self._recon = math.nan
        self._last_line = -SECONDS_BETWEEN_LINES
        self._bar = _bar()
        self._task = self._bar.add_task("training", total=1.0)

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, volumes_seen: int, seconds: float, metrics: dict[str, float]) -> None:
        """Shows the state after a step.

        Args:
            volumes_seen: so far.
            seconds: trained so far.
            metrics: of the step: time/volumes_per_second and the losses; without the
                reconstruction loss if the step skips the encoder.
        """
        rate = metrics["time/volumes_per_second"]
        self._recon = metrics.get("generator/reconstruction", self._recon)
        self._rate = rate if self._rate == 0 else 0.95 * self._rate + 0.05 * rate
        left = (self._volumes - volumes_seen) / self._rate
        share = volumes_seen / self._volumes
        if self._seconds:
            left = min(left, self._seconds - seconds)
            share = max(share, seconds / self._seconds)
        minutes, rest = divmod(max(0, int(left)), 60)
        text = (
            f"training: {volumes_seen:,} volumes  {self._rate:.1f}/s  {minutes}:{rest:02d} left  "
            f"D {metrics['critic/loss']:.2f}  G {metrics['generator/critic']:.2f}  "
            f"recon {self._recon:.3f}"
        )
        self._bar.update(self._task, completed=min(share, 1.0), description=text)
        if self._bar.disable and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            log.info("%3.0f%%  %s", 100 * min(share, 1.0), text)


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
