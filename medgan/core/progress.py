"""Progress of long jobs: a bar on a terminal, log lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from medgan.core.launched import launched

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 15.0
LOSSES = {"critic/loss": "D", "generator/critic": "G", "generator/reconstruction": "recon"}
"""Losses that are shown, by their names among the metrics."""


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows progress; gives a function of the numbers done and in total.

    Args:
        what: such as "checking scans".
    """
    with _Bar() as bar:

        def show(done: int, total: int) -> None:
            bar.show(done / total if total else 1.0, f"{what} {done}/{total}", done == total)

        yield show


class TrainingProgress:
    """Shows volumes seen, volumes per second, time left and losses.

    Args:
        volumes: in total.
        seconds: time limit of the training; 0 for none.
    """

    def __init__(self, volumes: int, seconds: float) -> None:
        self._volumes, self._seconds = volumes, seconds
        self._rate = 0.0
        self._losses: dict[str, float] = {}
        self._bar = _Bar()

    def __enter__(self) -> "TrainingProgress":
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def update(self, volumes_seen: int, seconds: float, metrics: dict[str, float]) -> None:
        """Shows the state after a step.

        Args:
            volumes_seen: so far.
            seconds: trained so far.
            metrics: of the step: time/volumes_per_second and the losses; a loss that the step has
                not keeps its last value.
        """
        rate = metrics["time/volumes_per_second"]
        self._losses |= {name: metrics[name] for name in LOSSES if name in metrics}
        self._rate = rate if self._rate == 0 else 0.95 * self._rate + 0.05 * rate
        left = (self._volumes - volumes_seen) / self._rate
        share = volumes_seen / self._volumes
        if self._seconds:
            left = min(left, self._seconds - seconds)
            share = max(share, seconds / self._seconds)
        minutes, rest = divmod(max(0, int(left)), 60)
        losses = [f"{LOSSES[name]} {value:.3f}" for name, value in self._losses.items()]
        text = (
            f"training: {volumes_seen:,} volumes  {self._rate:.1f}/s  {minutes}:{rest:02d} left  "
            + "  ".join(losses)
        )
        self._bar.show(share, text)


class _Bar:
    """A bar with a text; without a terminal, a log line every `SECONDS_BETWEEN_LINES`.

    Of several processes that train together the first shows it.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            BarColumn(bar_width=24), TextColumn("{task.description}"), console=console,
            disable=not console.is_terminal or launched().rank > 0, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=1.0)
        self._last_line = time.monotonic()

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, share: float, text: str, last: bool = False) -> None:
        """Shows the share that is done; the last state is always logged."""
        self._progress.update(self._task, completed=min(share, 1.0), description=text)
        waited = time.monotonic() - self._last_line
        if self._progress.disable and (last or waited > SECONDS_BETWEEN_LINES):
            self._last_line = time.monotonic()
            log.info("%3.0f%%  %s", 100 * min(share, 1.0), text)
