"""Merges the shards of a folder: one table, one page, as if one run had done all."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from medgan.app.folder import Asked, claim, note, read_record
from medgan.app.result import StepResult, written
from medgan.app.run import Run
from medgan.app.steps import STEPS
from medgan.app.steps.reading import report_step
from medgan.core.config import Config, build, read_yaml, without_names
from medgan.core.config import merge as merge_settings
from medgan.core.errors import DataError, EnvironmentFailure
from medgan.core.files import locked, write_atomic
from medgan.workflows.executor.shard import SHARDS
from medgan.workflows.merge import all_done, merge, shards_of

log = logging.getLogger(__name__)
RESOLVED = "config.yaml"


def merge_shards(out: Path) -> Run:
    """Merges the shards of a folder, and writes its pages.

    Args:
        out: folder of the whole.

    Returns:
        The run, with what was done.

    Raises:
        ConfigError, DataError: E_SHARD; E_OUT when the folder holds anything else.
        EnvironmentFailure: E_BUSY, E_DISK.
    """
    first, *others = shards_of(out)
    with locked(out):
        asked = read_record(first)
        if any(_apart(read_record(other)) != _apart(asked) for other in others):
            raise DataError(
                "E_SHARD", f"{SHARDS}/", "were asked for different things",
                "run all of them with one command, or --replace",
            )  # fmt: skip
        for step, wanted in asked.items():
            claim(out, step, STEPS[step].writes, wanted, False)
        config = _config(first, out)
        done = merge(out)
        for step, wanted in asked.items():
            note(out, step, wanted)
        if (first / RESOLVED).is_file():
            write_atomic(out / RESOLVED, yaml.safe_dump(without_names(config)))
        run = Run(config, steps=("index", "score", "report"))
        run.refusals = done.refusals
        lines = written(done.step, out)
        run.results[done.step] = StepResult({"scans": done.cases, "folder": str(out)}, lines)
        if done.step == "score" and done.cases:
            page = report_step(run)
            if page is not None:
                run.results["report"] = page
        shutil.rmtree(out / SHARDS)
    log.info("%d scans of all shards: %s", done.cases, out)
    return run


def merge_if_last(out: Path) -> Run | None:
    """Merges if every shard is done and no other process does so."""
    if not all_done(out):
        return None
    try:
        return merge_shards(out)
    except EnvironmentFailure as error:
        if error.code != "E_BUSY":
            raise
        return None


def _apart(asked: Mapping[str, Asked]) -> dict[str, Asked]:
    """What steps were asked for, but for paths, which machines may spell differently."""
    paths = ("data.source", "model_uri")
    return {
        step: {name: value for name, value in wanted.items() if name not in paths}
        for step, wanted in asked.items()
    }


def _config(shard: Path, out: Path) -> Config:
    """The settings of a shard, for the whole."""
    path = shard / RESOLVED
    values = read_yaml(path) if path.is_file() else {}
    return build(merge_settings(values, {"out": str(out), "executor": {"shard": ""}}), [])
