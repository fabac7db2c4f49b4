"""Work of several programs, timed in turns: all meet the same minutes of a machine."""

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

log = logging.getLogger(__name__)
EXTRA = "pip install 'medgan[bench]'"
Row = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What is timed.

    Attributes:
        turn: does the work once.
        units: steps, volumes or scans in a turn.
        facts: for the row, such as the number of parameters.
    """

    turn: Callable[[], object]
    units: int
    facts: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """A program that does a kind of work.

    Attributes:
        name: of its row.
        includes: what its time holds that others may not, or lacks.
        source: whose code runs, and its licence.
        begin: gets ready, which is not timed.
    """

    name: str
    includes: str
    source: str
    begin: Callable[[], Work]


class Turn(NamedTuple):
    """What a turn took, for each unit.

    Attributes:
        seconds: by the clock.
        processor: of the processor, all threads.
    """

    seconds: float
    processor: float


def measured(contenders: Sequence[Contender], turns: int, device: torch.device) -> list[Row]:
    """A row for each contender; the first is the one that the others are compared with.

    Args:
        contenders: the first has to run.
        turns: of each that count, one after the other: A, B, C, A, B, C; before them each has one
            that does not.
        device: where they compute.

    Returns:
        name, includes, source, the facts of its work, `milliseconds` and
        `processor_milliseconds` (medians for a unit) and `ratio`, its time in that of the first:
        the median over the turns with the least and the most. Where one does not run, `absent`
        says why, in place of figures.
    """
    works: dict[str, Work] = {}
    absent: dict[str, str] = {}
    times: dict[str, list[Turn]] = {one.name: [] for one in contenders}
    for contender in contenders:
        try:
            work = contender.begin()
            work.turn()
            works[contender.name] = work
        except ImportError as error:
            absent[contender.name] = f"{error.name or error} is not installed: {EXTRA}"
        except (RuntimeError, MemoryError) as error:
            absent[contender.name] = (str(error).splitlines() or ["no reason given"])[0][:200]
        if contender.name in absent:
            log.warning("%s: %s", contender.name, absent[contender.name])
    for number in range(turns):
        log.info("turn %d of %d", number + 1, turns)
        for name, work in works.items():
            times[name].append(_timed(work, device))
    first = times[contenders[0].name]
    rows = []
    for one in contenders:
        row: Row = {"name": one.name, "includes": one.includes, "source": one.source}
        if one.name in absent:
            rows.append({**row, "absent": absent[one.name]})
            continue
        own = times[one.name]
        ratios = [mine.seconds / ours.seconds for mine, ours in zip(own, first, strict=True)]
        rows.append(
            {
                **row,
                **works[one.name].facts,
                "milliseconds": _rounded(1000 * statistics.median(t.seconds for t in own)),
                "processor_milliseconds": _rounded(
                    1000 * statistics.median(t.processor for t in own)
                ),
                "ratio": {
                    "value": _rounded(statistics.median(ratios)),
                    "low": _rounded(min(ratios)),
                    "high": _rounded(max(ratios)),
                },
            }
        )
    return rows


def _timed(work: Work, device: torch.device) -> Turn:
    """A turn; on a GPU all that it queued is waited for."""
    wait(device)
    clock, processor = time.perf_counter(), time.process_time()
    work.turn()
    wait(device)
    seconds, used = time.perf_counter() - clock, time.process_time() - processor
    return Turn(seconds / work.units, used / work.units)


def wait(device: torch.device) -> None:
    """Until a GPU has done all that was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
