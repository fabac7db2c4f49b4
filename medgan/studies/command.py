"""A training of the user's own: a command that gets a data folder and leaves its figures."""

import json
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medgan.errors import ConfigError, EnvironmentFailure

PLACES = ("data", "result", "seed")


def check_command(template: str) -> None:
    """Refuses a template that leaves no result or names what there is not.

    Raises:
        ConfigError: E_COMMAND.
    """
    try:
        template.format(**dict.fromkeys(PLACES, ""))
        fits = all(f"{{{place}}}" in template for place in ("data", "result"))
    except (KeyError, IndexError, ValueError):
        fits = False
    if not fits:
        raise ConfigError(
            "E_COMMAND", "utility.command", "does not say {data} and {result}, or names others",
            "write it as: python train.py --data {data} --result {result} --seed {seed}",
        )  # fmt: skip


def run_command(template: str, data: Path, folder: Path, seed: int) -> dict[str, list[float]]:
    """Runs a training and reads what it measured.

    Args:
        template: of a shell command, with the places {data}, {result} and {seed}.
        data: folder with `dataset.json`, whose list `test` is what to be tested on.
        folder: receives `result.json` from the command, and `log.txt` with what it prints.
        seed: of the training.

    Returns:
        Figures by name: one number each, or one a test scan in the order of the list.

    Raises:
        EnvironmentFailure: E_COMMAND when it fails or leaves no figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result, log = folder.resolve() / "result.json", folder / "log.txt"
    result.unlink(missing_ok=True)
    values = {"data": str(data.resolve()), "result": str(result), "seed": str(seed)}
    command = template.format(**{place: shlex.quote(text) for place, text in values.items()})
    with log.open("wb") as file:
        status = subprocess.run(
            command, shell=True, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if status:
        raise _failure(f"ended with status {status}", f"read {log} and run the same again")
    try:
        return _figures(json.loads(result.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):
        raise _failure(
            "left no figures in {result}", 'let it write {"Dice": 0.81}, or a list of a number a '
            "test scan, under each name",
        ) from None  # fmt: skip


def _figures(found: Mapping[str, float | list[float]]) -> dict[str, list[float]]:
    figures = {
        str(name): [float(v) for v in (value if isinstance(value, list) else [value])]
        for name, value in found.items()
    }
    if len({len(values) for values in figures.values()}) != 1:
        raise ValueError("no figures, or lists of different lengths")
    if not np.isfinite([v for values in figures.values() for v in values]).all():
        raise ValueError("not a number")
    return figures


def _failure(what: str, remedy: str) -> EnvironmentFailure:
    return EnvironmentFailure("E_COMMAND", "utility.command", what, remedy)
