"""`medgan sweep`: looks at the scans once, draws all trials, trains one after the other."""

import logging
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medgan.app.folder import asked, claim, note
from medgan.app.pipeline_files import read_pipeline
from medgan.app.run import Run, check_tracking, facts, open_mirror
from medgan.app.steps import STEPS
from medgan.app.sweep.results import NAME, describe, found, lines, parameters, write_results
from medgan.app.sweep.space import Drawn, Space, setting_text, space_of
from medgan.app.sweep.study import Trials, draw, load_optuna
from medgan.app.sweep.trial import prepare, work
from medgan.core.config import Config, build, merge, without_names
from medgan.core.config.reading import NAMES
from medgan.core.errors import ConfigError, TrainingDiverged
from medgan.core.files import locked, write_atomic
from medgan.core.joining import require_alone
from medgan.core.tables import text_table
from medgan.tracking.mirror import Mirror
from medgan.tracking.record import CONFIG, Record, recorded

log = logging.getLogger(__name__)
STUDY = "study"
_LEFT = (
    f"{STUDY}/journal*",
    "trial-*",
    f"{NAME}.*",
    "metrics.jsonl",
    "resolved.yaml",
    "tracking.json",
    "mlflow_*",
)
"""What a sweep leaves in its folder, beside the scans' manifest and their cache."""
_OF_TRIALS = ("train.volumes", "train.minutes")
"""Settings of --set that make trials short; the best settings are trained without them."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep is asked for.

    Attributes:
        pipeline: that is varied, as it was named.
        steps: of it that come before its training.
        config: all settings.
        space: what varies.
        drawn: the settings of each trial.
        overrides: texts of --set.
    """

    pipeline: str
    steps: list[str]
    config: Config
    space: Space
    drawn: list[Drawn]
    overrides: Sequence[str]

    @property
    def out(self) -> Path:
        """Receives everything."""
        return Path(self.config.out)

    @property
    def reads(self) -> list[str]:
        """Settings that decide what the trials are, by their full names."""
        names = [name for step in (*self.steps, "train") for name in STEPS[step].reads]
        return [*dict.fromkeys(names), "sweep.over", "sweep.seed", "sweep.stop"]

    def command(self, shared: bool) -> str:
        """The command that trains settings in full, which take the place of `{}`, by another seed.

        Args:
            shared: whether it goes into files, where paths have no place.
        """
        pipeline, data, out = self.pipeline, self.config.data.source, f"{self.out}-best"
        if shared:
            pipeline, data, out = Path(pipeline).stem, data and "SCANS", "runs/best"
        words = ["medgan", "train", pipeline, *(["--data", data] if data else []), "-o", out]
        for override in self.overrides:
            key, _, value = override.partition("=")
            section, _, name = key.partition(".")
            if section == "sweep" or key in _OF_TRIALS:
                continue
            path = name in NAMES.get(section, ())
            words += ["--set", f"{key}={'PATH' if shared and path else value}"]
        other_seed = f" {{}} --set train.seed={self.config.train.seed + 1}"
        return " ".join(_quoted(word) for word in words) + other_seed


def _quoted(word: str) -> str:
    """A word for a shell, with braces doubled for `str.format`."""
    return shlex.quote(word).replace("{", "{{").replace("}", "}}")


def plan_sweep(
    pipeline: str, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> Sweep:
    """What a sweep would do, with every trial's settings checked; writes nothing.

    Args:
        pipeline: path of a YAML file, or the name of one in `pipelines/`.
        overrides: `section.key=value`, which win over the file and the values.
        values: nested settings, which win over the file.

    Raises:
        ConfigError: E_SWEEP, E_SET, E_KEY, E_VALUE, those of reading a pipeline, and E_RANKS when
            torchrun has started several processes.
        EnvironmentFailure: E_EXTRA without Optuna.
    """
    require_alone("sweep")
    load_optuna()
    steps, described = read_pipeline(pipeline)
    if "train" not in steps:
        raise ConfigError(
            "E_SWEEP", Path(pipeline).name, f"trains nothing that validation scans judge: its "
            f"steps are {', '.join(steps)}", "choose a pipeline with the step train",
        )  # fmt: skip
    before = steps[: steps.index("train")]
    read = {"out", "tracking", "train.device", "sweep"}
    read |= {name for step in (*before, "train") for name in STEPS[step].reads}
    for override in overrides:
        key = override.partition("=")[0].strip()
        if "=" in override and not read & {key, key.partition(".")[0]}:
            raise ConfigError("E_SET", key, "not read by sweep", "leave it out")
    config = build(merge(described, values or {}), overrides)
    space = space_of(config)
    drawn = draw(space, config.sweep.trials, config.sweep.seed)
    if len(drawn) < 2:
        raise ConfigError("E_SWEEP", "sweep.over", "gives one trial", "name two values or more")
    for one in drawn:
        space.config(one)
    return Sweep(pipeline, before, config, space, drawn, overrides)


def planned(sweep: Sweep) -> list[str]:
    """A line a trial: what `--dry-run` prints."""
    keys = [*sweep.space.choices, *sweep.space.ranges]
    rows = [(n, *(setting_text(one[key]) for key in keys)) for n, one in enumerate(sweep.drawn)]
    return text_table(("trial", *keys), rows).splitlines()


def run_sweep(sweep: Sweep, replace: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Trains all trials that are not done yet, and says what was found.

    Args:
        sweep: that `plan_sweep` gave.
        replace: whether to remove what the folder holds of another sweep.

    Returns:
        The content of sweep.json, and lines to print.

    Raises:
        ConfigError: E_OUT for a folder with another sweep, E_RESUME when the scans are others now.
        TrainingDiverged: E_SWEEP when no trial was finished.
        MedganError: whatever stops the training of every trial.
        Interrupted: E_STOPPED; the same command goes on.
    """
    out, config = sweep.out, sweep.config
    check_tracking(Run(config))
    with locked(out / STUDY):
        wanted = asked(config, sweep.reads)
        claim(out, NAME, _LEFT, wanted, replace)
        if replace:
            _remove(out)
        note(out, NAME, wanted)
        run = _look_at_scans(sweep)
        trials = Trials(out / STUDY, sweep.space, config)
        digest = run.manifest().digest
        if trials.about("scans", digest) != digest:
            raise ConfigError(
                "E_RESUME", "the scans", "are others than when this sweep began",
                "choose another folder, or start over with --replace",
            )  # fmt: skip
        trials.enqueue(sweep.drawn)
        _train_all(sweep, run, trials)
        result = _result(sweep, trials, shared=False)
    if result["best"] is None:
        codes = Counter(row["code"] or row["state"] for row in result["trials"])
        raise TrainingDiverged(
            "E_SWEEP", str(out), "no trial was finished: "
            + ", ".join(f"{code} {count}" for code, count in codes.items()),
            f"see {NAME}.html, and vary within other values",
        )  # fmt: skip
    return result, lines(out, result)


def _remove(out: Path) -> None:
    """Removes another sweep, but not the lock that this process holds."""
    for path in [path for pattern in _LEFT for path in out.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _look_at_scans(sweep: Sweep) -> Run:
    """Does the steps before the training in the sweep's folder, as if it came next."""
    run = Run(sweep.config, steps=(*sweep.steps, "train"))
    for step in sweep.steps:
        STEPS[step].work(run)
    return run


def _train_all(sweep: Sweep, run: Run, trials: Trials) -> None:
    """Trains one trial after the other; results are written after each."""
    out, result = sweep.out, _result(sweep, trials)
    write_atomic(out / CONFIG, yaml.safe_dump(without_names(sweep.config)))
    record = Record(parameters(result), facts() | {"medgan.sweep": "yes"}, run.manifest().digest)
    with recorded(record, out, (out / "tracking.json").is_file()):
        describe(out, result)
        with open_mirror(run) or nullcontext() as mirror:
            _report(sweep, trials, mirror)
            while (trial := trials.following()) is not None:
                drawn = sweep.drawn[trial.number]
                folder, config = prepare(run, sweep.space, trial.number, drawn)
                said = ", ".join(f"{key}={setting_text(v)}" for key, v in drawn.items())
                log.info("trial %d of %d: %s", trial.number, len(trials.all), said)
                work(trials, trial, folder, config)
                _report(sweep, trials, mirror)


def _report(sweep: Sweep, trials: Trials, mirror: Mirror | None) -> None:
    result = _result(sweep, trials)
    describe(sweep.out, result)
    write_results(sweep.out, result)
    if mirror is not None:
        mirror.log({}, 0)


def _result(sweep: Sweep, trials: Trials, shared: bool = True) -> dict[str, Any]:
    """What was found, for files that others may read or for the terminal."""
    command = sweep.command(shared)
    return found(sweep.pipeline, sweep.space, sweep.config, trials.all, command)
