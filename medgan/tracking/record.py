"""What a training is, in its folder: settings, tags, data set, and how it ended.

Written whether or not there is an MLflow, so that it can be sent there later.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medgan.core.errors import EnvironmentFailure
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json

RECORD = "tracking.json"
CONFIG = "resolved.yaml"


@dataclass(frozen=True)
class Record:
    """What MLflow is told about a training besides its metrics and pictures; no paths.

    Attributes:
        parameters: settings by their full names.
        tags: such as the git revision.
        digest: of the manifest.
        counts: scans of each split.
        status: RUNNING, FINISHED, FAILED or KILLED.
        started: in milliseconds since 1970, when the folder was trained first.
        ended: likewise; 0 while it runs.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    status: str = "RUNNING"
    started: int = 0
    ended: int = 0

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """That of a folder; empty, and finished, where an older version has trained."""
        path = folder / RECORD
        if not path.is_file():
            return cls(status="FINISHED")
        return cls(**read_json(path))

    def write(self, folder: Path) -> None:
        """Into the folder of the training.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        write_atomic(folder / RECORD, json.dumps(asdict(self), indent=1))


@contextmanager
def recorded(record: Record, folder: Path, resumes: bool) -> Iterator[None]:
    """Writes a record at the start of a training and again, with its status, at its end.

    Args:
        record: what it is.
        folder: of the training.
        resumes: whether it goes on with what the folder holds.
    """
    started = Record.read(folder).started if resumes else 0
    record = replace(record, started=started or int(1000 * time.time()))
    record.write(folder)
    try:
        yield
    except BaseException as error:
        with suppress(EnvironmentFailure):  # the error itself matters more
            _end(ended_by(error), folder)
        raise
    _end("FINISHED", folder)


def _end(status: str, folder: Path) -> None:
    replace(Record.read(folder), status=status, ended=int(1000 * time.time())).write(folder)


def ended_by(error: BaseException | None) -> str:
    """The status of a training that ended so: FINISHED, FAILED, or KILLED by a request to stop."""
    if error is None:
        return "FINISHED"
    return "FAILED" if isinstance(error, Exception) else "KILLED"
