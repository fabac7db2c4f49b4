"""What MLflow has acknowledged of a run folder, kept in a small file beside the run's id."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from medgan.core.files import write_atomic
from medgan.core.json_files import read_json_object

SENT_FILE = "mlflow_sent.json"


@dataclass
class Sent:
    """What one MLflow run has.

    Attributes:
        time: of the last row of metrics.jsonl, in milliseconds.
        pictures: digests by file names.
        record: digest of settings, tags, data set and configuration.
        status: of the run.
    """

    time: int = 0
    pictures: dict[str, str] = field(default_factory=dict)
    record: str = ""
    status: str = ""


class SentFile:
    """The file, with one entry for each MLflow run that this folder was sent to.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SENT_FILE
        try:
            found = read_json_object(self._path)
            self._runs = {run: Sent(**values) for run, values in found.get("runs", {}).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            found, self._runs = {}, {}
        self.token: str = found.get("token") or uuid4().hex
        """Marks this folder's run in any store: a run that was made just before a server died is
        found again by it."""

    def of(self, run_id: str) -> Sent:
        """What a run has; to be changed in place, then saved."""
        return self._runs.setdefault(run_id, Sent())

    def save(self) -> None:
        """Writes the file.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        runs = {run: asdict(sent) for run, sent in self._runs.items()}
        write_atomic(self._path, json.dumps({"token": self.token, "runs": runs}, indent=1))
