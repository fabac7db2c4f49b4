"""A training of the user's own: a command that gets a data folder and leaves its figures."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from medgan.core.errors import ConfigError, EnvironmentFailure

PLACES = ("data", "result", "seed")
GRACE = 10.0
"""Seconds that a command has to end when it is asked to."""


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


def run_command(
    template: str, data: Path, folder: Path, seed: int, tests: int
) -> dict[str, list[float]]:
    """Runs a training and reads what it measured; asked to stop, it ends all that this started.

    Args:
        template: of a shell command, with the places {data}, {result} and {seed}.
        data: folder with `dataset.json`, whose list `test` is what to be tested on.
        folder: receives `result.json` from the command, and `log.txt` with what it prints.
        seed: of the training.
        tests: how many scans `test` lists.

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
        status = _run(command, file)
    if status:
        raise _failure(f"ended with status {status}", f"read {log} and run the same again")
    try:
        return _figures(json.loads(result.read_text(encoding="utf-8")), tests)
    except (OSError, ValueError, TypeError, AttributeError):
        raise _failure(
            "left no figures in {result}", 'let it write {"Dice": 0.81}, or a list of '
            f"{tests} numbers, one a test scan, under each name",
        ) from None  # fmt: skip


def _run(command: str, output: IO[bytes]) -> int:
    process = subprocess.Popen(
        command, shell=True, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait()
    except BaseException:  # a training may hold a device: it must not live on
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(GRACE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _figures(found: Mapping[str, float | list[float]], tests: int) -> dict[str, list[float]]:
    figures = {
        str(name): [float(v) for v in (value if isinstance(value, list) else [value])]
        for name, value in found.items()
    }
    lengths = {len(values) for values in figures.values()}
    if len(lengths) != 1 or not lengths <= {1, tests}:
        raise ValueError("no figures, or lists of other lengths than there are test scans")
    if not np.isfinite([v for values in figures.values() for v in values]).all():
        raise ValueError("not a number")
    return figures


def _failure(what: str, remedy: str) -> EnvironmentFailure:
    return EnvironmentFailure("E_COMMAND", "utility.command", what, remedy)
