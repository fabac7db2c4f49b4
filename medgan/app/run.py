"""What the steps of one pipeline share: settings, results, refusals, the model, the record."""

import logging
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.app.presets import shipped_models
from medgan.app.result import StepResult
from medgan.core.config import Config
from medgan.core.errors import Exit
from medgan.core.files import write_atomic
from medgan.core.ranks import Ranks
from medgan.core.table_files import table_text
from medgan.core.version import __version__
from medgan.data.index import Found
from medgan.data.manifest import Manifest, Refusal
from medgan.data.reading import ReadScans
from medgan.tracking.loading import load
from medgan.tracking.tracker import Tracker
from medgan.workflows.executor.shard import Shard

if TYPE_CHECKING:
    from medgan.model.model import Model
    from medgan.tracking.mirror import Mirror
    from medgan.tracking.mlflow import MlflowRun
    from medgan.workflows.executor.chosen import ChosenExecutor
    from medgan.workflows.executor.work import Executor, ModelAt

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
_MODEL_OF_WORKERS = ".workers"
"""Copy of a registered model, as long as there are workers."""
_WORKERS_AT_ONCE = ("score", "translate")
"""Steps after `index` whose workers may begin while it is done."""


@dataclass
class Run:
    """What the steps of one pipeline share.

    Attributes:
        config: settings; a step may add what it found out.
        results: of the steps that are done, by their names.
        refusals: files that were left out.
        scans: what the step `index` read, for the steps to come.
        steps: names of all steps of the pipeline.
        follow: hears of the training, evaluation by evaluation.
        shard: share of the scans that this run works on, in a folder of its own.
        listing: pseudonyms of all scans that are listed, where this run reads a share of them.
        ranks: the processes that train together.
        ended: the status with which the first of them ended, where this is another one.
    """

    config: Config
    results: dict[str, StepResult] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    scans: ReadScans = field(default_factory=ReadScans)
    steps: tuple[str, ...] = ()
    follow: Tracker | None = None
    shard: Shard | None = None
    listing: list[str] = field(default_factory=list)
    ranks: Ranks = field(default_factory=Ranks)
    ended: int | None = None
    _models: dict[str, "Model"] = field(default_factory=dict)
    _executor: "ChosenExecutor | None" = None

    @property
    def out(self) -> Path:
        """The folder that receives everything."""
        return Path(self.config.out)

    def folder(self, name: str) -> Path:
        """Where a step leaves its files: in a subfolder where a pipeline also trains."""
        return self.out / name if name and "train" in self.steps else self.out

    @property
    def model_folder(self) -> Path:
        """Where a training puts its model."""
        return self.out / "model"

    def manifest(self) -> Manifest:
        """The manifest that the step `index` wrote."""
        return Manifest.load(self.out / MANIFEST)

    def model(self, uri: str = "") -> "Model":
        """A model, loaded once: the one named, else the configured one, else the one trained here.

        Args:
            uri: folder, models:/name@alias or runs:/id/model.
        """
        from medgan.networks.device import choose_device

        uri = uri or self.config.model_uri or str(self.model_folder)
        if uri not in self._models:
            device = choose_device(self.config.train.device)
            self._models[uri] = load(uri, self.reading_uri(), device.type)
        return self._models[uri]

    def start(self) -> "Model | None":
        """The model whose weights the training starts from, if there is one."""
        uri = self.config.train.start_from
        shipped = shipped_models().get(uri)
        here = shipped is None or Path(uri).is_dir()
        return self.model(uri if here else str(shipped)) if uri else None

    def executor(self, tasks: int) -> "Executor":
        """Does work on many scans: in this process, or in workers that are ended with the run.

        Args:
            tasks: how many there are, about.
        """
        return self._chosen().of(tasks)

    def part(self, found: list[Found]) -> list[Found]:
        """The share of the listed scans that this run reads: all scans of its subjects."""
        self.listing = [name for _, name, _ in found]
        if self.shard is None:
            return found
        mine = set(self.shard.of_all(list(dict.fromkeys(subject for *_, subject in found))))
        return [one for one in found if one[2] in mine]

    def expect(self, tasks: int) -> None:
        """Starts workers while the scans are being listed, where nothing changes their model."""
        next_steps = self.steps[self.steps.index("index") + 1 :] if "index" in self.steps else ()
        if self.config.model_uri and next_steps and next_steps[0] in _WORKERS_AT_ONCE:
            self._chosen().begin(tasks)

    @property
    def works_elsewhere(self) -> bool:
        """Whether workers read the scans, so that this process need not keep them."""
        return self._executor is not None and self._executor.elsewhere

    def _chosen(self) -> "ChosenExecutor":
        from medgan.workflows.executor.chosen import ChosenExecutor

        if self._executor is None:
            self._executor = ChosenExecutor(self.config.executor, self.model, self._model_at)
        return self._executor

    def _model_at(self) -> "ModelAt":
        """The model in a folder, for workers; a registered one is copied beside the results."""
        from medgan.tracking.registry import download
        from medgan.workflows.executor.work import ModelAt

        model, uri = self.model(), self.config.model_uri or str(self.model_folder)
        folder = Path(uri)
        if uri.startswith(("models:/", "runs:/")):
            folder = download(uri, self.reading_uri(), self.out / _MODEL_OF_WORKERS)
        return ModelAt(folder.resolve(), model.digest, model.device.type)

    def close(self) -> None:
        """Ends the workers, if there are any."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None
        shutil.rmtree(self.out / _MODEL_OF_WORKERS, ignore_errors=True)

    def reading_uri(self) -> str:
        """The tracking store that models come from; empty where there is none."""
        from medgan.tracking.client import reading_uri

        uri = self.config.tracking.uri
        return "" if uri == "none" else uri or reading_uri(self.out)

    def writing_uri(self) -> str:
        """The tracking store that runs go to; empty when tracking is off."""
        from medgan.tracking.client import writing_uri

        uri = self.config.tracking.uri
        return "" if uri == "none" else uri or writing_uri(self.out)

    def closing_lines(self) -> list[str]:
        """What the steps say, the pages to open and the commands to try next."""
        results = list(self.results.values())
        lines = [line for result in results for line in result.lines]
        lines += [f"open      {result.page}" for result in results if result.page]
        commands = next((r.commands for r in reversed(results) if r.commands), ())
        return [*lines, *(f"try       {command}" for command in commands)]

    def as_json(self) -> dict[str, Any]:
        """What --json prints."""
        results = {step: result.as_json() for step, result in self.results.items()}
        refusals = [vars(refusal) for refusal in self.refusals]
        return {"out": str(self.out), **results, "refusals": refusals}

    @property
    def exit_status(self) -> Exit:
        """NOT_PASSED after a failed audit, else REFUSED where scans were left out."""
        if self.ended is not None:
            return Exit(self.ended)
        if not all(result.passed for result in self.results.values()):
            return Exit.NOT_PASSED
        return Exit.REFUSED if self.refusals else Exit.DONE

    def refuse(self, refusals: Sequence[Refusal]) -> None:
        """Notes, logs and writes down what was left out; nothing that an earlier step refused.

        Of several processes the first alone does so.
        """
        if not self.ranks.leads:
            return
        refusals = [refusal for refusal in refusals if refusal not in self.refusals]
        self.refusals = (*self.refusals, *refusals)
        columns = ("case", "code", "what", "remedy")
        rows = [vars(r) for r in self.refusals]
        write_atomic(self.out / "refused.csv", table_text(rows, columns))
        for r in refusals:
            log.warning("refused %s %s: %s; %s", r.code, r.case, r.what, r.remedy)

    def set(self, section: str, **values: Any) -> None:  # noqa: ANN401 - any setting
        """Changes settings of one section for the steps to come."""
        old = getattr(self.config, section)
        self.config = self.config.model_copy(update={section: old.model_copy(update=values)})


def git_revision() -> str:
    """The revision of the checkout this package runs from, or an empty string."""
    root = Path(__file__).parents[2]
    try:
        answer = subprocess.run(  # nosec B603 B607 # no input; the user's own git
            ["git", "rev-parse", "--show-toplevel", "HEAD"], cwd=root,
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
        top, revision = answer.stdout.split("\n")[:2]
        return revision if Path(top).resolve() == root.resolve() else ""
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


def facts() -> dict[str, str]:
    """Versions, for cards and provenance."""
    return {"medgan": __version__, "git_revision": git_revision() or "unknown"}


def open_mlflow(run: Run) -> "MlflowRun | None":
    """The MLflow run of this folder, new or continued; None when tracking is off.

    Raises:
        ConfigError: E_VALUE when MLflow does not accept a name.
        EnvironmentFailure: E_TRACKING.
    """
    from medgan.tracking.mlflow import MlflowRun

    check_tracking(run)
    uri = run.writing_uri()
    return MlflowRun(uri, run.config.tracking.experiment, run.out) if uri else None


def open_mirror(run: Run) -> "Mirror | None":
    """Begins to copy the training of this folder into MLflow; None when tracking is off.

    Raises:
        ConfigError: E_VALUE when MLflow does not accept a name.
        EnvironmentFailure: E_TRACKING when the store cannot be used, unless a server merely does
            not answer.
    """
    from medgan.tracking.client import database_file
    from medgan.tracking.mirror import SECONDS_AT_START, Mirror
    from medgan.tracking.mlflow import MlflowRun

    check_tracking(run)
    uri, tracking = run.writing_uri(), run.config.tracking
    if not uri:
        return None
    same = " with the same tracking.uri" if tracking.uri else ""
    later = f"medgan sync {run.out}{same}"
    seconds = SECONDS_AT_START if database_file(uri) is None else None
    return Mirror(lambda: MlflowRun(uri, tracking.experiment, run.out), run.out, later, seconds)


def check_tracking(run: Run) -> None:
    """Checks the names for MLflow, also those that are used only after the training.

    Raises:
        ConfigError: E_VALUE.
    """
    from medgan.tracking.names import check_names

    names = run.config.tracking
    if run.writing_uri():
        check_names(names.experiment, names.name, names.alias)
