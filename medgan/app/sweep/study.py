"""The trials of a sweep in Optuna: drawn beforehand, kept in a journal, stopped when hopeless.

The journal is the truth. Optuna's dashboard can open it; a killed sweep goes on by it.
"""

import logging
import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medgan.app.sweep.space import MOST_COMBINATIONS, Drawn, Space
from medgan.core.config import Config
from medgan.core.errors import ConfigError, EnvironmentFailure

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution  # pyright: ignore[reportMissingImports]
    from optuna.pruners import BasePruner  # pyright: ignore[reportMissingImports]
    from optuna.study import Study  # pyright: ignore[reportMissingImports]
    from optuna.trial import FrozenTrial, Trial  # pyright: ignore[reportMissingImports]

log = logging.getLogger(__name__)
JOURNAL = "journal.log"
FINISHED_FIRST = 3
"""Trials that are finished before one is stopped: a median of fewer is chance."""
EVALUATIONS_FIRST = 2
"""Evaluations before a trial is stopped, and a third of all: early ones say little of the end."""
_TRIES = 200
"""Draws for each trial that is wanted, until all differ."""


def load_optuna() -> ModuleType:
    """The library, which logs nothing of its own.

    Raises:
        EnvironmentFailure: E_EXTRA.
    """
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise EnvironmentFailure(
            "E_EXTRA", "optuna", "not installed, and sweeps need it",
            "run pip install 'medgan[sweep]'",
        ) from None  # fmt: skip
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    return optuna


def draw(space: Space, trials: int, seed: int) -> list[Drawn]:
    """The settings of all trials; more trials with the same seed begin with the same ones.

    Args:
        space: of the sweep.
        trials: how many; 0 is one for each combination.
        seed: of the draws.

    Raises:
        ConfigError: E_SWEEP when there are too many combinations, or too few for the trials.
    """
    if trials == 0 and space.ranges:
        raise ConfigError(
            "E_SWEEP", "sweep.trials", "a range has no end", "say how many to draw with -n"
        )
    if space.combinations > MOST_COMBINATIONS and trials == 0:
        raise ConfigError(
            "E_SWEEP", "sweep.over", f"{space.combinations} combinations",
            f"say how many to draw with -n, or vary less: {MOST_COMBINATIONS} at most",
        )  # fmt: skip
    if not space.ranges and (trials == 0 or trials == space.combinations):
        return space.grid()
    if space.combinations and trials > space.combinations:
        raise ConfigError(
            "E_SWEEP", "sweep.trials", f"there are {space.combinations} combinations",
            "leave -n out, or give more values or a range",
        )  # fmt: skip
    optuna = load_optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    found: dict[str, Drawn] = {}
    for _ in range(_TRIES * trials):
        params = study.ask(distributions(space)).params
        drawn = {key: _rounded(space, key, value) for key, value in params.items()}
        found.setdefault(str(drawn), drawn)
        if len(found) == trials:
            return list(found.values())
    raise ConfigError(
        "E_SWEEP", "sweep.trials", f"only {len(found)} different settings were drawn",
        "give a smaller -n, or more values",
    )  # fmt: skip


def _rounded(space: Space, key: str, value: Any) -> Any:  # noqa: ANN401 - a label
    """A drawn number with three digits, unless that leaves the range."""
    if key not in space.ranges or key in space.whole:
        return value
    short, ends = float(f"{value:.3g}"), space.ranges[key]
    return short if ends.low <= short <= ends.high else value


def distributions(space: Space) -> "dict[str, BaseDistribution]":
    """What is varied, as Optuna says it."""
    kinds = load_optuna().distributions
    found: dict[str, BaseDistribution] = {
        key: kinds.CategoricalDistribution(labels) for key, labels in space.choices.items()
    }
    for key, ends in space.ranges.items():
        if key in space.whole:
            found[key] = kinds.IntDistribution(round(ends.low), round(ends.high), log=ends.log)
        else:
            found[key] = kinds.FloatDistribution(ends.low, ends.high, log=ends.log)
    return found


class Trials:
    """The trials of a sweep, in the journal of a folder that this process has locked.

    Args:
        folder: holds the journal.
        space: of the sweep.
        config: that is varied; for the rule that stops trials.
    """

    def __init__(self, folder: Path, space: Space, config: Config) -> None:
        optuna = load_optuna()
        journal = folder / JOURNAL
        _mend(journal)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls parts of itself experimental
            backend = optuna.storages.journal.JournalFileBackend(str(journal))
            self._study: Study = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend), study_name="sweep",
                sampler=optuna.samplers.RandomSampler(0), pruner=_pruner(optuna, config),
                load_if_exists=True,
            )  # fmt: skip
        self._states, self._trial = optuna.trial.TrialState, optuna.trial.Trial
        self._distributions = distributions(space)

    @property
    def all(self) -> "list[FrozenTrial]":
        """Every trial, in the order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    def about(self, name: str, value: str) -> str:
        """A fact about the sweep: what was noted first."""
        known = self._study.user_attrs.get(name)
        if known is None:
            self._study.set_user_attr(name, value)
        return value if known is None else known

    def enqueue(self, drawn: list[Drawn]) -> None:
        """Adds the settings of trials behind those that are known already.

        Raises:
            ConfigError: E_OUT when those are others.
        """
        known = [trial.system_attrs["fixed_params"] for trial in self.all]
        if known != drawn[: len(known)]:
            raise ConfigError(
                "E_OUT", "-o", f"holds a sweep of {len(known)} trials with other settings",
                f"give -n {len(known)} or more, choose another folder, or use --replace",
            )  # fmt: skip
        for one in drawn[len(self.all) :]:
            self._study.enqueue_trial(one)

    def following(self) -> "Trial | None":
        """The trial that was interrupted, else the next one; None when all are done."""
        for trial in self.all:
            if trial.state == self._states.RUNNING:
                return self._trial(self._study, trial._trial_id)
        if any(trial.state == self._states.WAITING for trial in self.all):
            return self._study.ask(self._distributions)
        return None

    def finish(self, trial: "Trial", value: float, facts: Mapping[str, Any]) -> None:
        """Notes that a trial was trained to its end.

        Args:
            trial: it.
            value: its figure; small is good.
            facts: what else is known.
        """
        self._note(trial, facts)
        self._study.tell(trial, value)

    def stop(self, trial: "Trial", facts: Mapping[str, Any]) -> None:
        """Notes that a trial was stopped early."""
        self._note(trial, facts)
        self._study.tell(trial, state=self._states.PRUNED)

    def fail(self, trial: "Trial", facts: Mapping[str, Any]) -> None:
        """Notes that a trial failed."""
        self._note(trial, facts)
        self._study.tell(trial, state=self._states.FAIL)

    def _note(self, trial: "Trial", facts: Mapping[str, Any]) -> None:
        for name, value in facts.items():
            trial.set_user_attr(name, value)

    def add_seconds(self, trial: "Trial", seconds: float) -> None:
        """Notes time that was spent on a trial, over all interruptions."""
        trial.set_user_attr("seconds", trial.user_attrs.get("seconds", 0.0) + seconds)


def _pruner(optuna: ModuleType, config: Config) -> "BasePruner":
    """The rule by which hopeless trials are stopped; steps are evaluations, the first is 1."""
    train = config.train
    first = max(EVALUATIONS_FIRST, math.ceil(train.volumes / train.sample_every / 3))
    if config.sweep.stop == "median":
        return optuna.pruners.MedianPruner(FINISHED_FIRST, first)
    if config.sweep.stop == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(first, reduction_factor=3)
    return optuna.pruners.NopPruner()


def _mend(journal: Path) -> None:
    """Removes a lock of a killed process, and a last line that it has written half."""
    with suppress(FileNotFoundError):
        journal.with_name(f"{JOURNAL}.lock").unlink()
    if journal.is_file() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
        journal.write_bytes(content[: content.rfind(b"\n") + 1])
