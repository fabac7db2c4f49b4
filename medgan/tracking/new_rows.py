"""Reading a metrics.jsonl that grows: each row once, from a position on."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.core.json_files import parse_json


@dataclass(frozen=True)
class NewRow:
    """A row of metrics.jsonl.

    Attributes:
        time: in milliseconds; later than that of all rows before it.
        step: volumes seen.
        metrics: by their names.
    """

    time: int
    step: int
    metrics: dict[str, float]


class NewRows:
    """Rows of a metrics.jsonl that have not been read yet.

    One thread reads; another one may write, and calls `again` between rewriting the file and
    adding to it.

    Args:
        path: the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        """In bytes; what lies before it needs no reading again."""
        self._lock = threading.Lock()

    def again(self) -> None:
        """Starts from the top, after the file was rewritten."""
        with self._lock:
            self._offset = 0

    def read(self, after: int, metrics: int) -> list[NewRow]:
        """The next complete rows; they are read again next time, until `after` has passed them.

        Args:
            after: time of the last row that is not wanted any more.
            metrics: at most so many in all, but always one row.
        """
        rows: list[NewRow] = []
        if not self._path.is_file():
            return rows
        with self._lock, self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:
                self._offset = 0
            end = file.seek(self._offset)
            for line in file:
                end += len(line)
                row = _parsed(line, end)
                if row is not None and row.time > after:
                    metrics -= len(row.metrics)
                    if rows and metrics < 0:
                        break
                    rows.append(row)
                elif not rows and line.endswith(b"\n"):
                    self._offset = end
        return rows


def _parsed(line: bytes, end: int) -> NewRow | None:
    """A row; None where a kill has cut it off.

    Rows of older versions have no time: where they end in the file stands in for it, which is
    smaller than any time, grows, and is the same at each reading.
    """
    if not line.endswith(b"\n"):
        return None
    try:
        values: dict[str, Any] = parse_json(line)
        step, time = int(values.pop("volumes_seen")), int(values.pop("time", end))
    except (ValueError, KeyError, AttributeError):
        return None
    return NewRow(time, step, {k: v for k, v in values.items() if isinstance(v, int | float)})
