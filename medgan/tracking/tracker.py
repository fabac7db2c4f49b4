"""The tracker that a training sees, and the one that always writes: metrics.jsonl."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from medgan.core.files import write_atomic


@runtime_checkable
class Tracker(Protocol):
    """Records a run."""

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """Records figures at a point of the training."""
        ...

    def picture(self, path: Path) -> None:
        """Records a picture that has been written."""
        ...

    def rewind(self, volumes_seen: int) -> None:
        """The training went back to this point; what was recorded beyond is void."""
        ...


class JsonlTracker:
    """Appends one JSON object a call to a file; the record of last resort.

    Args:
        path: the file; its folder is made.
        resume_at: rows beyond this many volumes, left by a run that was killed after its last
            checkpoint, are dropped.
    """

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.rewind(resume_at)

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """One line: volumes_seen and the figures."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"volumes_seen": volumes_seen, **scalars}) + "\n")

    def picture(self, path: Path) -> None:
        """Pictures lie beside the file already."""

    def rewind(self, volumes_seen: int) -> None:
        """Drops the rows beyond."""
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
    """The rows of a metrics.jsonl; a last line cut off by a kill is passed over."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows
