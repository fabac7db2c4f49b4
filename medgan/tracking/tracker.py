"""Trackers of a training: the interface, and the one that writes metrics.jsonl."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from medgan.core.files import write_atomic
from medgan.core.json_files import parse_json

METRICS = "metrics.jsonl"


@runtime_checkable
class Tracker(Protocol):
    """Records a run."""

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """Records metrics at a point of the training."""
        ...

    def picture(self, path: Path) -> None:
        """Records a picture file."""
        ...

    def rewind(self, volumes_seen: int) -> None:
        """The training went back to this point; later records are void."""
        ...


class JsonlTracker:
    """Appends one JSON object a call to a file.

    Each row has its `time`, in milliseconds since 1970, later than that of any row before it: with
    it a copy elsewhere knows which rows it has.

    Args:
        path: the file; its folder is made.
        resume_at: rows beyond this many volumes, from a run that was killed after its last
            checkpoint, are dropped.
    """

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._time = max((row.get("time", 0) for row in read_metrics(path)), default=0)
        self.rewind(resume_at)

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """One line: volumes_seen, time and the metrics."""
        self._time = max(int(1000 * time.time()), self._time + 1)
        row = {"volumes_seen": volumes_seen, "time": self._time, **scalars}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def picture(self, path: Path) -> None:
        """Nothing to do: pictures are in the same folder."""

    def rewind(self, volumes_seen: int) -> None:
        """Drops later rows."""
        kept = [row for row in read_metrics(self._path) if row["volumes_seen"] <= volumes_seen]
        write_atomic(self._path, "".join(json.dumps(row) + "\n" for row in kept))


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """To each in turn."""
        for tracker in self._trackers:
            tracker.log(scalars, volumes_seen)

    def picture(self, path: Path) -> None:
        """To each in turn."""
        for tracker in self._trackers:
            tracker.picture(path)

    def rewind(self, volumes_seen: int) -> None:
        """To each in turn."""
        for tracker in self._trackers:
            tracker.rewind(volumes_seen)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; an incomplete last line is skipped."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(parse_json(line))
            except ValueError:
                continue
    return rows
