"""Sending what an MLflow run has not yet got of its folder."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from medgan.tracking.mlflow import METRICS_AT_ONCE, PICTURES, RUN_FILE, MlflowRun
from medgan.tracking.new_rows import NewRows
from medgan.tracking.record import CONFIG, Record
from medgan.tracking.sent import SentFile
from medgan.tracking.tracker import METRICS


class Sender:
    """Sends a run folder piece by piece, and writes down each piece that MLflow acknowledged.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows = NewRows(folder / METRICS)

    def again(self) -> None:
        """Reads metrics.jsonl from the top: it was rewritten, or goes to another run."""
        self._rows.again()

    def settings(self, run: MlflowRun) -> bool:
        """Sends settings, tags and data set, unless the run has them."""
        record, config = Record.read(self._folder), self._folder / CONFIG
        text = repr((record.parameters, record.tags, record.digest, record.counts))
        digest = _digest(text.encode() + (config.read_bytes() if config.is_file() else b""))
        if not record.parameters or run.sent.record == digest:
            return False
        run.describe(record, config)
        run.sent.record = digest
        run.save()
        return True

    def metrics(self, run: MlflowRun, stop: Callable[[], bool] = lambda: False) -> int:
        """Sends all rows that the run has not got.

        Args:
            run: receives them.
            stop: whether to leave the rest.

        Returns:
            How many.
        """
        count = 0
        while not stop() and (rows := self._rows.read(run.sent.time, METRICS_AT_ONCE)):
            run.log(rows)
            run.sent.time = rows[-1].time
            run.save()
            count += len(rows)
        return count

    def pictures(self, run: MlflowRun) -> int:
        """Sends pictures that are new or were drawn again; how many."""
        count = 0
        for path in sorted((self._folder / PICTURES).glob("*.png")):
            digest = _digest(path.read_bytes())
            if run.sent.pictures.get(path.name) != digest:
                run.picture(path)
                run.sent.pictures[path.name] = digest
                run.save()
                count += 1
        return count


def rows_left(folder: Path) -> int:
    """How many rows of a run folder its MLflow run has not acknowledged."""
    path = folder / RUN_FILE
    time = SentFile(folder).of(path.read_text().strip()).time if path.is_file() else 0
    reader, count = NewRows(folder / METRICS), 0
    while rows := reader.read(time, METRICS_AT_ONCE):
        time, count = rows[-1].time, count + len(rows)
    return count


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
