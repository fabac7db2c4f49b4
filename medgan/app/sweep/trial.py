"""One trial: an ordinary training in a folder of its own, judged at each evaluation."""

import gc
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medgan.app.pipeline import RESOLVED, Again, run_pipeline
from medgan.app.run import MANIFEST, Run
from medgan.app.sweep.space import Drawn, Space
from medgan.app.sweep.study import Trials
from medgan.core.config import Config, without_names
from medgan.core.errors import CodedError, DataError, EnvironmentFailure, Interrupted, as_coded
from medgan.core.files import write_atomic
from medgan.data.manifest import Manifest
from medgan.tracking.mlflow import PARENT_FILE
from medgan.tracking.tracker import METRICS, read_metrics
from medgan.training.monitor import METRICS as TO_MINIMISE

if TYPE_CHECKING:
    from optuna.trial import Trial  # pyright: ignore[reportMissingImports]

log = logging.getLogger(__name__)
PIPELINE = "pipeline.yaml"
STOPPED_EARLY = "E_PRUNED"


def trial_folder(sweep: Path, number: int) -> Path:
    """Where a trial lies."""
    return sweep / f"trial-{number:03d}"


def prepare(run: Run, space: Space, number: int, drawn: Drawn) -> tuple[Path, Config]:
    """Makes the folder of a trial: its pipeline, which `medgan run` runs as well, and its scans.

    The scans are those that the sweep has looked at, with their splits; what is computed of them
    is shared with the other trials.

    Args:
        run: of the sweep's folder, with its manifest.
        space: of the sweep.
        number: of the trial.
        drawn: what is its own.

    Returns:
        The folder, and its settings.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    folder = trial_folder(run.out, number)
    tracking = run.config.tracking.model_dump() | {"uri": run.writing_uri() or "none"}
    data = run.config.data.model_dump(mode="json")
    config = space.config(drawn, out=str(folder), tracking=tracking, data=data)
    values = config.model_dump(mode="json", exclude={"sweep"})
    text = yaml.safe_dump({"steps": ["train"], "config": values}, sort_keys=False)
    write_atomic(folder / PIPELINE, text, private=True)
    write_atomic(folder / RESOLVED, yaml.safe_dump(without_names(config)))
    write_atomic(folder / PARENT_FILE, "..")
    Manifest.load(run.out / MANIFEST).save(folder / MANIFEST)
    shared = run.out / "cache"
    shared.mkdir(exist_ok=True)
    with suppress(OSError):  # there already, or a system without links: each computes its own
        (folder / "cache").symlink_to(os.path.relpath(shared, folder), target_is_directory=True)
    return folder, config


def work(trials: Trials, trial: "Trial", folder: Path, config: Config) -> None:
    """Trains a trial to its end, until it is hopeless or until it fails, and notes which.

    Args:
        trials: of the sweep.
        trial: new or interrupted.
        folder: of the trial.
        config: its settings.

    Raises:
        DataError, EnvironmentFailure: whatever no other setting would mend, such as E_DISK.
        Interrupted: E_STOPPED; the training has left a checkpoint.
    """
    judge = Judge(trial, folder, config)
    try:
        with _timed(trials, trial):
            run = run_pipeline(str(folder / PIPELINE), again=Again(), follow=judge)
    except Interrupted as error:
        if error.code != STOPPED_EARLY:
            raise
        log.info("%s", error)
        trials.stop(trial, judge.facts())
    except Exception as error:
        failure = as_coded(error)
        if isinstance(error, DataError | EnvironmentFailure) and failure.code != "E_MEMORY":
            raise
        log.warning("trial %d failed: %s", trial.number, failure)
        log.debug("trial %d", trial.number, exc_info=True)
        trials.fail(trial, _of_failure(failure) | judge.facts())
    else:
        values = run.results["train"].values
        value = judge.small_is_good(values.get(f"samples/{config.train.metric}", math.nan))
        facts = {"best_at": values.get("best_at", values["volumes_seen"])} | judge.facts(values)
        if math.isfinite(value):
            trials.finish(trial, value, facts)
        else:
            what = {"code": "E_NAN", "what": f"its {config.train.metric} is no number"}
            trials.fail(trial, what | facts)
    finally:
        _release()


class Judge:
    """A tracker that tells Optuna of each evaluation, and ends a training that is hopeless.

    Args:
        trial: that is trained.
        folder: of its training.
        config: its settings.
    """

    def __init__(self, trial: "Trial", folder: Path, config: Config) -> None:
        self._trial, self._folder, self._train = trial, folder, config.train
        self._reported: set[int] = set()

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """Nothing: metrics.jsonl has it."""

    def rewind(self, volumes_seen: int) -> None:
        """Nothing: the first figure of an evaluation counts."""

    def picture(self, path: Path) -> None:
        """Judges the training by its evaluations so far.

        Raises:
            Interrupted: E_PRUNED.
        """
        evaluations = self.evaluations()
        for step, (_, value) in enumerate(evaluations, 1):
            if step not in self._reported and step not in self._known():
                self._trial.report(self.small_is_good(value), step)
            self._reported.add(step)
        if not evaluations or evaluations[-1][0] >= self._train.volumes:
            return
        if self._trial.should_prune():
            raise Interrupted(
                STOPPED_EARLY, f"trial {self._trial.number}",
                f"stopped early at {evaluations[-1][0]} volumes: {self._train.metric} "
                f"{evaluations[-1][1]:.4g} is behind other trials",
                f"run medgan run {self._folder / PIPELINE} to train it to its end all the same",
            )  # fmt: skip

    def evaluations(self) -> list[tuple[int, float]]:
        """Volumes seen and the figure of each evaluation; not of weights it started from."""
        name = f"samples/{self._train.metric}"
        rows = read_metrics(self._folder / METRICS)
        return [
            (row["volumes_seen"], row[name]) for row in rows if name in row and row["volumes_seen"]
        ]

    def small_is_good(self, value: float) -> float:
        """A figure as it is compared: of shares the distance from 1."""
        return TO_MINIMISE[self._train.metric](value)

    def facts(self, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the journal keeps of a training: volumes seen, evaluations, figures.

        Args:
            values: of a training that is finished; of another one the last evaluation counts.
        """
        rows = read_metrics(self._folder / METRICS)
        figures = values or {k: v for row in rows for k, v in row.items()}
        return {
            "volumes": rows[-1]["volumes_seen"] if rows else 0,
            "evaluations": self.evaluations(),
            "figures": {
                name.partition("/")[2]: float(value)
                for name, value in figures.items() if name.startswith("samples/")
            },
        }  # fmt: skip

    def _known(self) -> set[int]:
        """Evaluations that an interrupted process has told."""
        frozen = self._trial.study.get_trials(deepcopy=False)[self._trial.number]
        return set(frozen.intermediate_values)


def _of_failure(failure: CodedError) -> dict[str, Any]:
    return {"code": failure.code, "what": failure.what, "remedy": failure.remedy}


@contextmanager
def _timed(trials: Trials, trial: "Trial") -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        trials.add_seconds(trial, time.monotonic() - started)


def _release() -> None:
    """Gives back what a training has left in memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
