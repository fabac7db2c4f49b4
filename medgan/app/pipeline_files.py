"""Pipeline files: steps and settings, and what one file extends."""

from pathlib import Path
from typing import Any

from medgan.app.presets import find_pipeline, shipped_pipelines
from medgan.app.steps import STEPS
from medgan.core.config import merge, read_yaml
from medgan.core.errors import ConfigError


def read_pipeline(name: str) -> tuple[list[str], dict[str, Any]]:
    """Steps and settings of a pipeline file; `extends` names one to start from.

    Raises:
        ConfigError: E_MISSING, E_YAML, E_PIPELINE.
    """
    return _read(find_pipeline(name), ())


def _read(path: Path, extending: tuple[Path, ...]) -> tuple[list[str], dict[str, Any]]:
    """The same of a file that others, the first of them asked for, extend."""
    chain = (*extending, path.resolve())
    if path.resolve() in extending:
        names = " -> ".join(link.name for link in chain)
        raise _wrong(path, f"extends itself ({names})", "extend another pipeline")
    values = read_yaml(path)
    unknown = sorted(str(key) for key in values if key not in ("extends", "steps", "config"))
    if unknown:
        raise _wrong(path, f"unknown key {unknown[0]}", "use extends, steps, config")
    config = values.get("config", {})
    if not isinstance(config, dict):
        raise _wrong(path, "config is not a mapping", "write `section: {setting: value}` lines")
    steps, base = [], {}
    if "extends" in values:
        if not isinstance(values["extends"], str):
            raise _wrong(path, "extends is not a name", "name one pipeline to start from")
        steps, base = _read(_extended(path, values["extends"]), chain)
    steps = values.get("steps", steps)
    if not isinstance(steps, list) or not steps:
        raise _wrong(path, "steps is not a list of steps", "write `steps: [index, train]`")
    for step in steps:
        if not isinstance(step, str) or step not in STEPS:
            raise _wrong(path, f"unknown step {step}", f"use {', '.join(STEPS)}")
    return steps, merge(base, config)


def _extended(path: Path, name: str) -> Path:
    """The pipeline beside a file, else the shipped one: `train.yaml` may extend `train`."""
    beside = path.parent / f"{name}.yaml"
    if beside.is_file() and beside.resolve() != path.resolve():
        return beside
    shipped = shipped_pipelines()
    if name in shipped:
        return shipped[name]
    return beside if beside.is_file() else find_pipeline(name)


def _wrong(path: Path, what: str, remedy: str) -> ConfigError:
    return ConfigError("E_PIPELINE", path.name, what, remedy)
