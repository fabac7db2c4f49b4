"""Runs the steps of a pipelines/*.yaml.

Steps hand over through files in one folder, so any of them can be run again alone.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medgan.app.done import DoneSteps
from medgan.app.folder import RECORD, Aside, Asked, asked, claim, inputs, note
from medgan.app.pipeline_files import read_pipeline
from medgan.app.result import StepResult
from medgan.app.run import Run
from medgan.app.steps import STEPS
from medgan.app.together import SHARED, call_others, train_along
from medgan.core.config import Config, build, merge, without_names
from medgan.core.determinism import deterministic
from medgan.core.errors import CodedError, ConfigError
from medgan.core.files import locked, sweep, write_atomic
from medgan.core.joining import joined, require_alone
from medgan.core.threads import shared_cores
from medgan.tracking.tracker import Tracker
from medgan.workflows.executor.shard import Shard, end_shard

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Again:
    """How a pipeline is run where it was run before.

    Attributes:
        first: the step to begin with; empty begins with the first.
        force: whether unchanged steps are done, too.
    """

    first: str = ""
    force: bool = False


RESOLVED = "config.yaml"


def run_pipeline(
    name: str,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    replace: bool = False,
    again: Again | None = None,
    follow: Tracker | None = None,
) -> Run:
    """Runs every step of a pipeline file in order.

    Started by torchrun, the first process runs the pipeline. The others train with it and do
    nothing else.

    Args:
        name: path of a YAML file, or the name of one in `pipelines/`.
        overrides: `section.key=value`, which win over the file and the values.
        values: nested settings, which win over the file.
        replace: whether to remove what other commands have left under the same names.
        again: skips steps that are unchanged since they were last done; None does all.
        follow: hears of the training, evaluation by evaluation.

    Returns:
        The run, with what each step has done.

    Raises:
        MedganError: whatever a step cannot do; steps before it have left their files.
    """
    run = _read_run(name, overrides, values)
    run.follow = follow
    if not SHARED & set(run.steps):
        require_alone(", ".join(run.steps))
    train = run.config.train
    with deterministic(train.deterministic), joined(train.device) as ranks:
        run.ranks = ranks
        try:
            if ranks.leads:
                run = _lead(run, replace, again)
            else:
                train_along(run)
        except CodedError as error:
            ranks.leave(int(error.exit_status))
            raise
        ranks.leave(int(run.exit_status))
    return run


def _lead(run: Run, replace: bool, again: Again | None) -> Run:
    """Runs the steps, alone or as the first of several processes."""
    whole = run.out
    _divide(run, replace)
    cores = shared_cores()
    with locked(run.out):
        sweep(run.out)
        done = None if again is None else DoneSteps(run, again.first, again.force)
        with Aside(run.out) as aside:
            claimed = _claim(run, replace)
            aside.keep(run.out / RESOLVED)

            def make_way(step: str) -> None:
                if step in claimed:
                    settings, same = claimed[step]
                    replaced = replace or (same and not STEPS[step].resumes)
                    _make_way(run, step, settings, replaced, aside)

            for step in run.steps if done is None else ():
                make_way(step)
            if "index" in run.steps:  # other pipelines work in the folder of one that had it
                write_atomic(run.out / RESOLVED, yaml.safe_dump(without_names(run.config)))
            try:
                for number, step in enumerate(run.steps):
                    cores.share()
                    if done is None:
                        _work(run, step)
                    elif done.plan(number)[0]:
                        make_way(step)
                        begun = done.begin(number)
                        _work(run, step)
                        done.end(number, begun)
                    else:
                        log.info("%s: unchanged, skipped", step)
                        if step in claimed:  # what it leaves is what is asked for now
                            note(run.folder(STEPS[step].folder), step, claimed[step][0])
                        done.skip(number)
            finally:
                run.close()
        if run.shard is not None:
            end_shard(run.out, run.listing)
    return run if run.shard is None else _merged(run, whole)


def _divide(run: Run, replace: bool) -> None:
    """Lets a run that works on a share of the scans do so in a folder of its own.

    Raises:
        ConfigError: E_USAGE when a step cannot be divided, E_OUT when the folder of the whole
            holds anything else.
    """
    run.shard = Shard.read(run.config.executor.shard)
    if run.shard is None:
        return
    whole = [step for step in run.steps if not STEPS[step].divisible]
    if whole:
        raise ConfigError(
            "E_USAGE", "executor.shard", f"{whole[0]} works on all scans at once",
            "leave --shard out",
        )  # fmt: skip
    _claim(run, replace)
    run.config = run.config.model_copy(update={"out": str(run.shard.folder(run.out))})


def _merged(run: Run, out: Path) -> Run:
    """The run of a shard, with what it was merged into, if it was the last one."""
    from medgan.app.merging import merge_if_last

    assert run.shard is not None
    merged = None if "augment" in run.steps else merge_if_last(out)
    if merged is not None:
        return merged
    if "augment" not in run.steps:
        text = f"{'shard':9} {run.config.executor.shard} is done; the last one makes the tables"
        run.results["shard"] = StepResult({"shard": run.config.executor.shard}, (text,))
    return run


def plan_pipeline(
    name: str, overrides: Sequence[str], values: Mapping[str, Any], again: Again
) -> tuple[list[str], list[str]]:
    """The steps of a pipeline, and why each would be done; an empty text where it is skipped.

    Writes nothing. The steps after `index` are judged as if the scans were the same.
    """
    run = _read_run(name, overrides, values)
    return list(run.steps), DoneSteps(run, again.first, again.force).plan()


def _read_run(name: str, overrides: Sequence[str], values: Mapping[str, Any] | None) -> Run:
    steps, described = read_pipeline(name)
    _refuse_unread(overrides, steps)
    run = Run(build(merge(described, values or {}), overrides), steps=tuple(steps))
    if run.config.train.start_from and not {"train", "bare", "scorers"} & set(steps):
        raise ConfigError(
            "E_SET", "train.start_from", f"not read by {', '.join(steps)}", "leave it out"
        )
    return run


def _work(run: Run, step: str) -> None:
    started = time.monotonic()
    if step in SHARED:
        call_others(run, step)
    result = STEPS[step].work(run)
    if result is not None:
        run.results[step] = result
    log.debug("%s took %.1f s", step, time.monotonic() - started)


def _refuse_unread(overrides: Sequence[str], steps: Sequence[str]) -> None:
    """Refuses settings that would change nothing.

    Raises:
        ConfigError: E_SET.
    """
    read = {"out", "model_uri", "tracking", "train.device"}
    read |= {name for step in steps for name in (*STEPS[step].reads, *STEPS[step].uses)}
    sections = {setting.partition(".")[0] for setting in read}
    for override in overrides:
        key = override.partition("=")[0].strip()
        section, _, name = key.partition(".")
        known = getattr(Config.model_fields.get(section), "annotation", None)
        if (not name and section in sections) or name.partition(".")[0] not in getattr(
            known, "model_fields", {}
        ):
            continue  # several settings at once, or none that there is, which `build` says
        if section not in read and f"{section}.{name.partition('.')[0]}" not in read:
            raise ConfigError(
                "E_SET", key, f"not read by {', '.join(steps)}",
                "leave it out, or set it where it counts",
            )  # fmt: skip


def _claim(run: Run, replace: bool) -> dict[str, tuple[Asked, bool]]:
    """Refuses folders that hold anything else, before any step begins.

    Returns:
        Of each step that writes: what it is asked for, and whether its folder holds just that.

    Raises:
        ConfigError: E_OUT.
    """
    claimed = {}
    for name in (name for name in run.steps if STEPS[name].writes):
        step, settings = STEPS[name], asked(run.config, STEPS[name].reads)
        same = name != "train" and claim(  # which refuses by itself: E_RESUME
            run.folder(step.folder), name, step.writes, settings, replace, step.extends
        )
        claimed[name] = settings, same
    return claimed


def _make_way(run: Run, name: str, settings: Asked, replaced: bool, aside: Aside) -> None:
    """Puts aside what a step replaces, and writes down what it is asked for.

    Args:
        run: of the step.
        name: of the step.
        settings: that it is asked for.
        replaced: whether what its folder holds is replaced.
        aside: receives it.

    Raises:
        ConfigError: E_OUT when what would go is to be read.
    """
    step, folder = STEPS[name], run.folder(STEPS[name].folder)
    aside.keep(folder / RECORD)
    if not step.overwrites and replaced:
        aside.take(folder, step.writes, inputs(run.config))
    note(folder, name, settings)
