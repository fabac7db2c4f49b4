"""Sending a training to MLflow once it is over, such as one of a machine without a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.app.run import Run
from medgan.core.config import build, read_yaml
from medgan.core.errors import ConfigError
from medgan.core.files import locked
from medgan.tracking.mlflow import PARENT_FILE
from medgan.tracking.record import CONFIG, Record
from medgan.tracking.tracker import METRICS


@dataclass(frozen=True)
class Synced:
    """What was sent to MLflow.

    Attributes:
        run: its id there.
        rows: of metrics.jsonl.
        pictures: sample grids.
        settings: whether settings, tags and data set.
        status: of the run, if MLflow had another one.
    """

    run: str
    rows: int
    pictures: int
    settings: bool
    status: str

    def lines(self) -> list[str]:
        """In words."""
        parts = [f"{self.rows} rows"] * bool(self.rows)
        parts += [f"{self.pictures} pictures"] * bool(self.pictures)
        parts += ["settings, tags and data set"] * self.settings
        parts += [f"status {self.status}"] * bool(self.status)
        return [f"MLflow run {self.run}: {', '.join(parts) or 'nothing was missing'}"]


def with_trials(folder: Path) -> list[Path]:
    """A folder, and those of its trainings where it is that of a sweep."""
    return [folder, *sorted(path.parent for path in folder.glob(f"*/{PARENT_FILE}"))]


def sync(folder: Path, overrides: Sequence[str] = ()) -> Synced:
    """Sends what MLflow has not got of a training.

    Args:
        folder: of a training that is finished or was stopped, tracked or not.
        overrides: settings of `tracking`; its other settings are those of the training.

    Raises:
        ConfigError: E_MISSING without a training, E_SET for other settings, E_USAGE when tracking
            is off.
        EnvironmentFailure: E_TRACKING when the store cannot be used, E_BUSY while it is trained.
    """
    from medgan.tracking.mlflow import MlflowRun
    from medgan.tracking.sending import Sender

    if not (folder / METRICS).is_file():
        raise ConfigError(
            "E_MISSING", str(folder), f"no training: it holds no {METRICS}",
            "name the folder that was given to medgan train as -o",
        )  # fmt: skip
    for override in overrides:
        if not override.startswith("tracking."):
            key = override.partition("=")[0]
            raise ConfigError("E_SET", key, "not read by sync", "leave it out")
    uri, experiment = _store(folder, overrides)
    with locked(folder):
        record, sender = Record.read(folder), Sender(folder)
        run = MlflowRun(uri, experiment, folder, runs=False)
        rows = sender.metrics(run)  # first: they need no store of artifacts
        settings, pictures = sender.settings(run), sender.pictures(run)
        status = "KILLED" if record.status == "RUNNING" else record.status
        new = status if run.sent.status != status else ""
        if new:
            run.finish(new, record.ended or run.sent.time)
        return Synced(run.run_id, rows, pictures, settings, new)


def _store(folder: Path, overrides: Sequence[str]) -> tuple[str, str]:
    """The URI of the store, and the experiment.

    Raises:
        ConfigError: E_USAGE.
    """
    path = folder / CONFIG
    known = read_yaml(path).get("tracking", {}) if path.is_file() else {}
    config = build({"out": str(folder), "tracking": known}, overrides)
    uri = Run(config).writing_uri()
    if not uri:
        raise ConfigError(
            "E_USAGE", "tracking.uri", "is none: there is nowhere to send to",
            "name a store with --set tracking.uri=http://server:5000",
        )  # fmt: skip
    return uri, config.tracking.experiment
