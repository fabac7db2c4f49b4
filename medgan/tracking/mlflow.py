"""A run in MLflow: rows of metrics.jsonl, pictures, settings, models; any call may be repeated."""

import json
import logging
import re
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from medgan.core.errors import EnvironmentFailure
from medgan.core.files import write_atomic
from medgan.tracking.client import connect, database_file
from medgan.tracking.failures import failure, mlflow_failures
from medgan.tracking.names import check_names
from medgan.tracking.new_rows import NewRow
from medgan.tracking.record import Record, ended_by
from medgan.tracking.registry import content_of
from medgan.tracking.sent import SentFile

log = logging.getLogger(__name__)
RUN_FILE = "mlflow_run.txt"
PARENT_FILE = "mlflow_parent.txt"
"""Names the folder, relative to its own, whose run a run belongs to, such as that of a sweep."""
MODEL_ARTIFACT, REGISTERED_ARTIFACT = "model", "registered"
PICTURES = "samples"
METRICS_AT_ONCE = 1000
_PARAMETERS_AT_ONCE = 100
"""More of either in one request are refused by MLflow."""
_TOKEN = "medgan.folder"  # nosec B105 # the name of a tag
_OPENING = threading.RLock()
"""Runs are opened one at a time: that of a sweep is needed by its trials' as well."""
_LONGEST_NAME = 250


class MlflowRun:
    """One MLflow run, continued when the same folder is trained again; closed by `with`.

    Every call may be repeated when it is not known whether it arrived. MLflow's stores keep metrics
    under run, name, time, step and value, and pass over what they have.

    Args:
        uri: of the tracking store.
        experiment: made if missing.
        folder: of the run; keeps the run's id, and what MLflow has of the run.
        runs: whether MLflow shows it as running until it is closed.

    Raises:
        ConfigError: E_VALUE when MLflow does not accept a name.
        EnvironmentFailure: E_TRACKING when the store cannot be reached.
    """

    def __init__(self, uri: str, experiment: str, folder: Path, runs: bool = True) -> None:
        check_names(experiment)
        self._client = connect(uri, write=True)
        with _OPENING, mlflow_failures():
            self._file = SentFile(folder)
            found = self._resume(folder)
            self.run_id = found or self._create(uri, experiment, folder)
            self.sent = self._file.of(self.run_id)
            if found and runs:
                self._client.update_run(self.run_id, status="RUNNING")
                self.sent.status = ""

    def __enter__(self) -> "MlflowRun":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.finish(ended_by(error))
        except EnvironmentFailure as failed:  # what was done is done
            log.warning("%s", failed)

    def save(self) -> None:
        """Writes down what MLflow has acknowledged."""
        self._file.save()

    def _resume(self, folder: Path) -> str | None:
        from mlflow.exceptions import MlflowException

        path = folder / RUN_FILE
        if not path.is_file():
            return None
        try:
            found = self._client.get_run(path.read_text().strip()).info
            return found.run_id if found.lifecycle_stage == "active" else None
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None  # deleted, or in another store

    def _create(self, uri: str, experiment: str, folder: Path) -> str:
        experiment_id = self._experiment(uri, experiment)
        self._file.save()  # the mark by which the run is found again, whatever happens next
        run_id = self._known(experiment_id)
        if run_id is None:
            beside = folder / PARENT_FILE
            above = folder / beside.read_text().strip() if beside.is_file() else None
            parent = MlflowRun(uri, experiment, above.resolve(), runs=False).run_id if above else ""
            run_id = self._new(experiment_id, folder, parent)
        write_atomic(folder / RUN_FILE, run_id)
        return run_id

    def _known(self, experiment_id: str) -> str | None:
        """The run that this folder has in the store, if its id was lost or another one written."""
        found = self._client.search_runs([experiment_id], f"tags.`{_TOKEN}` = '{self._file.token}'")
        return found[0].info.run_id if found else None

    def _new(self, experiment_id: str, folder: Path, parent: str) -> str:
        tags = {"mlflow.user": "medgan", "mlflow.source.name": "medgan", _TOKEN: self._file.token}
        if parent:
            tags["mlflow.parentRunId"] = parent
        started = Record.read(folder).started or None
        return self._client.create_run(experiment_id, started, tags, folder.name).info.run_id

    def _experiment(self, uri: str, name: str) -> str:
        """The id of an experiment, which is made if missing."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            database = database_file(uri)
            # By default MLflow puts artifacts below the current folder.
            folder = (database.resolve().parent / "mlartifacts").as_uri() if database else None
            try:
                return self._client.create_experiment(name, artifact_location=folder)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(name)  # another process was faster
                assert found is not None
        if found.lifecycle_stage == "deleted":
            raise failure(
                "the experiment was deleted",
                f"run mlflow experiments restore --experiment-id {found.experiment_id}, or choose "
                "another with --set tracking.experiment=NAME", "tracking.experiment",
            )  # fmt: skip
        return found.experiment_id

    def log(self, rows: Iterable[NewRow]) -> None:
        """Records rows of metrics.jsonl, at most METRICS_AT_ONCE metrics."""
        from mlflow.entities import Metric

        metrics = [
            Metric(_accepted(name), value, row.time, row.step)
            for row in rows
            for name, value in row.metrics.items()
        ]
        with mlflow_failures():
            self._client.log_batch(self.run_id, metrics=metrics)

    def picture(self, path: Path) -> None:
        """Records a picture, in place of an older one of its name."""
        with mlflow_failures():
            self._client.log_artifact(self.run_id, str(path), PICTURES)

    def describe(self, record: Record, config_file: Path) -> None:
        """Records settings, tags, data set and the resolved configuration.

        MLflow never changes a parameter once it is set: what a resumed training changed goes
        into a tag `resumed.<name>`.

        Args:
            record: of the training.
            config_file: YAML without paths of scans.
        """
        from mlflow.entities import Param, RunTag

        with mlflow_failures():
            old = self._client.get_run(self.run_id).data.params
            new = {key: str(value)[:500] for key, value in record.parameters.items()}
            changed = {f"resumed.{k}": v for k, v in new.items() if old.get(k, v) != v}
            params = [Param(key, value) for key, value in new.items() if key not in old]
            for start in range(0, len(params), _PARAMETERS_AT_ONCE):
                part = params[start : start + _PARAMETERS_AT_ONCE]
                self._client.log_batch(self.run_id, params=part)
            labels = [RunTag(key, value) for key, value in {**record.tags, **changed}.items()]
            self._client.log_batch(self.run_id, tags=labels)
            if record.digest:
                self._dataset(record.digest, record.counts)
            if config_file.is_file():
                self._client.log_artifact(self.run_id, str(config_file))

    def _dataset(self, digest: str, counts: dict[str, int]) -> None:
        """The manifest's digest as the data set of the run; no names, no paths."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset("manifest", digest[:32], "local", json.dumps({"sha256": digest}),
                       profile=json.dumps(counts))  # fmt: skip
        entry = DatasetInput(data, [InputTag("mlflow.data.context", "training")])
        self._client.log_inputs(self.run_id, datasets=[entry])

    def model(self, folder: Path) -> str:
        """Records the model folder under a name made from its content.

        A recorded model is never changed by a later one.

        Returns:
            Its URI, `runs:/<run>/model/<content>`.

        Raises:
            EnvironmentFailure: E_TRACKING when it could not be stored.
        """
        path = f"{MODEL_ARTIFACT}/{_content(folder)}"
        with mlflow_failures():
            self._client.log_artifacts(self.run_id, str(folder), path)
        return f"runs:/{self.run_id}/{path}"

    def mlflow_model(self, folder: Path) -> str:
        """Records the model folder as an MLflow model, from which versions are registered.

        Returns:
            Its URI, `runs:/<run>/registered/<content>`.

        Raises:
            EnvironmentFailure: E_TRACKING when it could not be stored.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow warns of its own type hints
            from medgan.tracking.pyfunc import write_mlflow_model

        path = f"{REGISTERED_ARTIFACT}/{_content(folder)}"
        with TemporaryDirectory() as parent, mlflow_failures():
            made = Path(parent) / MODEL_ARTIFACT
            write_mlflow_model(folder, made)
            self._client.log_artifacts(self.run_id, str(made), path)
        return f"runs:/{self.run_id}/{path}"

    def finish(self, status: str = "FINISHED", ended: int = 0) -> None:
        """Closes the run: FINISHED, FAILED or KILLED.

        Args:
            status: of the run.
            ended: when, in milliseconds since 1970; 0 is now.
        """
        with mlflow_failures():
            self._client.set_terminated(self.run_id, status, ended or None)
        self.sent.status = status
        self.save()


def _accepted(name: str) -> str:
    """A metric's name as MLflow takes it: names of conditions may hold other characters."""
    return re.sub(r"[^\w./ -]", "_", name)[:_LONGEST_NAME]


def _content(folder: Path) -> str:
    """A name made from the content of a model folder."""
    return content_of(folder)[:12]
