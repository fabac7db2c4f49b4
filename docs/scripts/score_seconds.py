"""Seconds of scoring one scan, by part, as the command line does it.

python docs/scripts/score_seconds.py MODEL folder_of_one_scan runs/seconds

Processor seconds of all threads, and seconds on the clock, which other work lengthens.
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

from medgan.app.pipeline import run_pipeline
from medgan.data import index, prepare
from medgan.data.align import Aligner
from medgan.data.prepare import Preparation
from medgan.model import anomaly
from medgan.model.model import Model
from medgan.workflows import pages, scan_score

PARTS: tuple[tuple[str, Any, str], ...] = (
    ("read and check", index, "check_scan"),
    ("strip the skull, if there is one", prepare, "clean"),
    ("register", Aligner, "__call__"),
    ("resample and scale", Preparation, "__call__"),
    ("networks and maps", anomaly, "make_maps"),
    ("maps, counterpart, regions in the scan's grid", Model, "score"),
    ("write", scan_score, "_save"),
    ("pages", pages, "write_scan"),
)
"""Where each part is called from; one that calls another is told without it."""


class Clock:
    """Processor and clock seconds by part, each without the parts inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._inner = [[0.0, 0.0]]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose seconds are added to a part."""

        @functools.wraps(function)
        def measured(*values: Any, **named: Any) -> Any:  # noqa: ANN401 - of any function
            self._inner.append([0.0, 0.0])
            start = time.process_time(), time.perf_counter()
            try:
                return function(*values, **named)
            finally:
                spent = [time.process_time() - start[0], time.perf_counter() - start[1]]
                inner = self._inner.pop()
                found = self.seconds.setdefault(name, [0.0, 0.0])
                for n in range(2):
                    found[n] += spent[n] - inner[n]
                    self._inner[-1][n] += spent[n]

        return measured


def main(model: str, source: str, folder: str) -> None:
    """Prints a Markdown table."""
    clock, began = Clock(), time.perf_counter()
    for name, owner, attribute in PARTS:
        setattr(owner, attribute, clock.timed(name, getattr(owner, attribute)))
    run_pipeline("score", [f"out={folder}", f"model_uri={model}", f"data.source={source}"])
    whole = [time.process_time(), time.perf_counter() - began + BEFORE]
    parts = [clock.seconds.get(name, [0.0, 0.0]) for name, _, _ in PARTS]
    known = [sum(part[n] for part in parts) for n in range(2)]
    print("| part | processor, s | clock, s |\n|---|---|---|")
    for (name, _, _), (cpu, wall) in zip(PARTS, parts, strict=True):
        print(f"| {name} | {cpu:.2f} | {wall:.2f} |")
    print(f"| **without start-up** | **{known[0]:.1f}** | **{known[1]:.1f}** |")
    print(f"| start: imports, the model | {whole[0] - known[0]:.2f} | {whole[1] - known[1]:.2f} |")
    print(f"| **in all** | **{whole[0]:.1f}** | **{whole[1]:.1f}** |")


BEFORE = time.process_time()
"""Seconds of the imports above."""

if __name__ == "__main__":
    main(*sys.argv[1:])
