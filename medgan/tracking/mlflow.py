"""The record of a training in MLflow: a copy of metrics.jsonl, pictures, settings and models."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from medgan.core.files import write_atomic
from medgan.tracking.client import connect, database_file
from medgan.tracking.failures import explain, failure, mlflow_failures
from medgan.tracking.names import check_names

if TYPE_CHECKING:
    from mlflow.utils.async_logging.run_operations import RunOperations

log = logging.getLogger(__name__)
RUN_FILE = "mlflow_run.txt"
MODEL_ARTIFACT = "model"
_SECONDS_BETWEEN_ROWS = 2.0
_PENDING = 100
_PARAMETERS_AT_ONCE = 100
"""More in one request are refused by MLflow."""


class MlflowRun:
    """One MLflow run, continued when the same folder is trained again; closed by `with`.

    When a server fails during a training, the training goes on: the first failure is logged, and
    later metrics are written to metrics.jsonl alone.

    Args:
        uri: of the tracking store.
        experiment: made if missing.
        folder: of the run; keeps the run's id.

    Raises:
        ConfigError: E_VALUE when MLflow does not accept a name.
        EnvironmentFailure: E_TRACKING when the store cannot be reached at the start.
    """

    def __init__(self, uri: str, experiment: str, folder: Path) -> None:
        check_names(experiment)
        self._client = connect(uri, write=True)
        self._pending: list[RunOperations] = []
        self._last_row = 0.0
        self._lost = False
        with mlflow_failures():
            self.run_id = self._resume(folder) or self._create(uri, experiment, folder)

    def __enter__(self) -> "MlflowRun":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failed = "FAILED" if isinstance(error, Exception) else "KILLED"
        self.finish("FINISHED" if error is None else failed)

    def _resume(self, folder: Path) -> str | None:
        from mlflow.exceptions import MlflowException

        path = folder / RUN_FILE
        if not path.is_file():
            return None
        try:
            run_id = path.read_text().strip()
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None  # deleted, or in another store

    def _create(self, uri: str, experiment: str, folder: Path) -> str:
        experiment_id = self._experiment(uri, experiment)
        tags = {"mlflow.user": "medgan", "mlflow.source.name": "medgan"}
        run_id = self._client.create_run(experiment_id, run_name=folder.name, tags=tags).info.run_id
        try:
            write_atomic(folder / RUN_FILE, run_id)
        except BaseException:
            with suppress(Exception):
                self._client.set_terminated(run_id, "FAILED")
            raise
        return run_id

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

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """Records metrics in the background.

        At most one row in two seconds; those that belong to a picture always.
        """
        from mlflow.entities import Metric

        now = time.monotonic()
        with_picture = any(name.startswith("samples/") for name in scalars)
        if self._lost or (now - self._last_row < _SECONDS_BETWEEN_ROWS and not with_picture):
            return
        self._last_row = now
        stamp = int(1000 * time.time())
        metrics = [Metric(name, value, stamp, volumes_seen) for name, value in scalars.items()]

        def record() -> None:
            operations = self._client.log_batch(self.run_id, metrics=metrics, synchronous=False)
            self._pending += [operations] if operations else []

        self._try(record)
        while len(self._pending) > _PENDING:  # the oldest are done; their faults show here
            self._try(self._pending.pop(0).wait)

    def picture(self, path: Path) -> None:
        """Records a picture."""
        self._try(lambda: self._client.log_artifact(self.run_id, str(path), "samples"))

    def rewind(self, volumes_seen: int) -> None:
        """MLflow keeps all rows; `train/rollbacks` and the time tell which are void."""

    def describe(self, parameters: dict[str, Any], tags: dict[str, str], config_file: Path) -> None:
        """Records settings, tags and the resolved configuration.

        MLflow never changes a parameter once it is set: what a resumed training changed goes
        into a tag `resumed.<name>`.

        Args:
            parameters: flat; no paths.
            tags: such as the git revision.
            config_file: YAML without paths of scans.
        """
        from mlflow.entities import Param, RunTag

        def record() -> None:
            old = self._client.get_run(self.run_id).data.params
            new = {key: str(value)[:500] for key, value in parameters.items()}
            changed = {f"resumed.{k}": v for k, v in new.items() if old.get(k, v) != v}
            params = [Param(key, value) for key, value in new.items() if key not in old]
            for start in range(0, len(params), _PARAMETERS_AT_ONCE):
                part = params[start : start + _PARAMETERS_AT_ONCE]
                self._client.log_batch(self.run_id, params=part)
            labels = [RunTag(key, value) for key, value in {**tags, **changed}.items()]
            self._client.log_batch(self.run_id, tags=labels)

        self._try(record)
        self._try(lambda: self._client.log_artifact(self.run_id, str(config_file)))

    def dataset(self, digest: str, counts: dict[str, int]) -> None:
        """Records the manifest's digest as the data set of the run; no names, no paths."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset("manifest", digest[:32], "local", json.dumps({"sha256": digest}),
                       profile=json.dumps(counts))  # fmt: skip
        entry = DatasetInput(data, [InputTag("mlflow.data.context", "training")])
        self._try(lambda: self._client.log_inputs(self.run_id, datasets=[entry]))

    def model(self, folder: Path) -> str:
        """Records the model folder under a name made from its content.

        A recorded model is never changed by a later one.

        Returns:
            Its URI, `runs:/<run>/model/<content>`.

        Raises:
            EnvironmentFailure: E_TRACKING when it could not be stored.
        """
        content = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:12]
        path = f"{MODEL_ARTIFACT}/{content}"
        with mlflow_failures():
            self._client.log_artifacts(self.run_id, str(folder), path)
        return f"runs:/{self.run_id}/{path}"

    def finish(self, status: str = "FINISHED") -> None:
        """Waits for pending requests and closes the run: FINISHED, FAILED or KILLED."""
        for operations in self._pending:
            self._try(operations.wait)
        self._pending = []
        # Even after a failure: the run must not look alive.
        self._try(lambda: self._client.set_terminated(self.run_id, status), always=True)

    def _try(self, call: Callable[[], object], always: bool = False) -> None:
        """Calls MLflow; its failure must not become one of the training."""
        if self._lost and not always:
            return
        try:
            call()
        except Exception as error:
            if not self._lost:
                log.warning("%s; metrics are still written to metrics.jsonl", explain(error))
            self._lost = True
