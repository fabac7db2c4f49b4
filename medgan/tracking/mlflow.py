"""A training's record in MLflow, mirrored from what metrics.jsonl holds anyway."""

import hashlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.core.errors import MedganError
from medgan.core.files import write_atomic
from medgan.tracking.client import connect, database_file, unreachable

if TYPE_CHECKING:
    from mlflow.utils.async_logging.run_operations import RunOperations

log = logging.getLogger(__name__)
RUN_FILE = "mlflow_run.txt"
MODEL_ARTIFACT = "model"
_SECONDS_BETWEEN_ROWS = 2.0
_PENDING = 100


class MlflowRun:
    """One MLflow run, continued when the same folder is trained again.

    A server that fails while a training runs costs the mirror, never the training: the first
    failure is logged and the rest of the figures go to metrics.jsonl alone.

    Args:
        uri: of the tracking store.
        experiment: made if missing.
        folder: of the run; keeps the run's id.

    Raises:
        EnvironmentFailure: E_TRACKING when the store cannot be reached at the start.
    """

    def __init__(self, uri: str, experiment: str, folder: Path) -> None:
        self._client = connect(uri)
        self._pending: list[RunOperations] = []
        self._last_row = 0.0
        self._lost = False
        try:
            self.run_id = self._resume(folder) or self._create(uri, experiment, folder)
        except MedganError:
            raise
        except Exception as error:
            raise unreachable(error) from None

    def _resume(self, folder: Path) -> str | None:
        from mlflow.exceptions import MlflowException

        path = folder / RUN_FILE
        if not path.is_file():
            return None
        try:
            run_id = path.read_text().strip()
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        except MlflowException:
            return None  # the folder was moved to another store

    def _create(self, uri: str, experiment: str, folder: Path) -> str:
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            database = database_file(uri)
            # Without a place of its own MLflow would put artifacts under the current folder.
            place = (database.resolve().parent / "mlartifacts").as_uri() if database else None
            experiment_id = self._client.create_experiment(experiment, artifact_location=place)
        else:
            experiment_id = found.experiment_id
        tags = {"mlflow.user": "medgan", "mlflow.source.name": "medgan"}
        run = self._client.create_run(experiment_id, run_name=folder.name, tags=tags)
        write_atomic(folder / RUN_FILE, run.info.run_id)
        return run.info.run_id

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """Mirrors figures in the background.

        At most one row in two seconds, but never without those that go with a picture.
        """
        from mlflow.entities import Metric

        now = time.monotonic()
        whole = any(name.startswith("samples/") for name in scalars)
        if self._lost or (now - self._last_row < _SECONDS_BETWEEN_ROWS and not whole):
            return
        self._last_row = now
        stamp = int(1000 * time.time())
        metrics = [Metric(name, value, stamp, volumes_seen) for name, value in scalars.items()]
        try:
            operations = self._client.log_batch(self.run_id, metrics=metrics, synchronous=False)
            self._pending += [operations] if operations else []
        except MedganError:
            raise
        except Exception as error:  # the training must not fail with its mirror
            self._lose(error)
        while len(self._pending) > _PENDING:  # the oldest are long done; their faults show here
            self._try(self._pending.pop(0).wait)

    def picture(self, path: Path) -> None:
        """Mirrors a picture."""
        self._try(lambda: self._client.log_artifact(self.run_id, str(path), "samples"))

    def rewind(self, volumes_seen: int) -> None:
        """MLflow keeps what it heard: `train/rollbacks` and the time tell the courses apart."""

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
            self._client.log_batch(
                self.run_id,
                params=[Param(key, value) for key, value in new.items() if key not in old],
                tags=[RunTag(key, value) for key, value in {**tags, **changed}.items()],
            )

        self._try(record)
        self._try(lambda: self._client.log_artifact(self.run_id, str(config_file)))

    def dataset(self, digest: str, counts: dict[str, int]) -> None:
        """Records the manifest's digest as the run's data set; no names, no paths."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset("manifest", digest[:32], "local", json.dumps({"sha256": digest}),
                       profile=json.dumps(counts))  # fmt: skip
        entry = DatasetInput(data, [InputTag("mlflow.data.context", "training")])
        self._try(lambda: self._client.log_inputs(self.run_id, datasets=[entry]))

    def model(self, folder: Path) -> str:
        """Records the model folder under a name made from its content.

        A model that was recorded, and perhaps registered, is never changed by a later one.

        Returns:
            Its URI, `runs:/<run>/model/<content>`.

        Raises:
            EnvironmentFailure: E_TRACKING: a model that was not stored must not look stored.
        """
        content = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:12]
        place = f"{MODEL_ARTIFACT}/{content}"
        try:
            self._client.log_artifacts(self.run_id, str(folder), place)
            return f"runs:/{self.run_id}/{place}"
        except MedganError:
            raise
        except Exception as error:
            raise unreachable(error) from None

    def finish(self, status: str = "FINISHED") -> None:
        """Waits for what is on its way and closes the run: FINISHED, FAILED or KILLED."""
        for operations in self._pending:
            self._try(operations.wait)
        self._pending = []
        try:  # whatever was lost before: the run must not look alive
            self._client.set_terminated(self.run_id, status)
        except MedganError:
            raise
        except Exception as error:
            self._lose(error)

    def _try(self, call) -> None:  # noqa: ANN001 - a call without arguments
        if self._lost:
            return
        try:
            call()
        except MedganError:
            raise
        except Exception as error:  # the training must not fail with its mirror
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if not self._lost:
            log.warning("%s; figures go on to metrics.jsonl", unreachable(error))
        self._lost = True
