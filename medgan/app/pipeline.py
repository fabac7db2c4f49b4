"""Runs the steps of a pipelines/*.yaml.

Steps hand over through files in one folder, so any of them can be run again alone.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from medgan.app.presets import shipped_pipelines
from medgan.app.run import Run
from medgan.app.steps import STEPS
from medgan.app.steps.scans import read_manifest
from medgan.core.config import Preprocessing, build, merge, read_yaml, without_names
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import locked, sweep, write_atomic
from medgan.data.plan import plan

if TYPE_CHECKING:
    from medgan.training.forecast import Forecast

log = logging.getLogger(__name__)
RESOLVED = "config.yaml"


def run_pipeline(
    name: str, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> Run:
    """Runs every step of a pipeline file in order.

    Args:
        name: path of a YAML file, or the name of one in `pipelines/`.
        overrides: `section.key=value`, which win over the file and the values.
        values: nested settings, which win over the file.

    Returns:
        The run, with what each step has done.

    Raises:
        MedganError: whatever a step cannot do; steps before it have left their files.
    """
    steps, described = read_pipeline(name)
    run = Run(build(merge(described, values or {}), overrides))
    with locked(run.out):
        sweep(run.out)
        if "index" in steps:  # other pipelines work in the folder of one that had it
            write_atomic(run.out / RESOLVED, yaml.safe_dump(without_names(run.config)))
        for step in steps:
            started = time.monotonic()
            result = STEPS[step](run)
            if result is not None:
                run.results[step] = result
            log.debug("%s took %.1f s", step, time.monotonic() - started)
    return run


def forecast_pipeline(
    name: str, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> "Forecast":
    """What the training of a pipeline would take; writes nothing.

    Args:
        name: path of a YAML file, or the name of one in `pipelines/`.
        overrides: settings that win; without scans, `data.shape` says what to expect.
        values: nested settings, which win over the file.

    Raises:
        ConfigError: E_NO_DATA when there is neither.
        DataError: E_SPLIT when no scan would be learned from.
    """
    from medgan.training.forecast import forecast

    config = build(merge(read_pipeline(name)[1], values or {}), overrides)
    data = config.data
    if data.source:
        with TemporaryDirectory() as folder:  # for what DICOM becomes
            cases = read_manifest(data, Path(folder))[0].split("train")
            if not cases:
                raise DataError(
                    "E_SPLIT", "the data set", "no training scans", "add healthy scans or set "
                    "data.fractions",
                )  # fmt: skip
            preprocessing = plan(data, cases)
        return forecast(config, preprocessing)
    if data.shape == "auto":
        raise ConfigError(
            "E_NO_DATA", "data.source", "no scans and no grid named", "give --data or data.shape"
        )
    spacing = (1.0, 1.0, 1.0) if data.spacing == "auto" else data.spacing
    labels = () if data.labels == "auto" else data.labels
    return forecast(config, Preprocessing(spacing=spacing, shape=data.shape, labels=labels))


def read_pipeline(name: str) -> tuple[list[str], dict[str, Any]]:
    """Steps and settings of a pipeline file; `extends` names one to start from.

    Raises:
        ConfigError: E_MISSING, E_PIPELINE.
    """
    path = find_pipeline(name)
    values = read_yaml(path)
    unknown = set(values) - {"extends", "steps", "config"}
    if unknown:
        raise ConfigError(
            "E_PIPELINE", path.name, f"unknown key {min(unknown)}", "use extends, steps, config"
        )
    steps: list[str] = []
    config: dict[str, Any] = {}
    if "extends" in values:
        base = path.parent / f"{values['extends']}.yaml"
        steps, config = read_pipeline(str(base) if base.is_file() else values["extends"])
    steps = values.get("steps", steps)
    for step in steps:
        if step not in STEPS:
            raise ConfigError(
                "E_PIPELINE", path.name, f"unknown step {step}", f"use {', '.join(STEPS)}"
            )
    return steps, merge(config, values.get("config") or {})


def find_pipeline(name: str) -> Path:
    """A file as given, or one that ships with medgan.

    Raises:
        ConfigError: E_MISSING.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_pipelines()
    stem = Path(name).stem
    if Path(name).name == name and stem in shipped:
        return shipped[stem]
    names = ", ".join(sorted(shipped))
    raise ConfigError("E_MISSING", name, "no such pipeline", f"use a path or {names}")
