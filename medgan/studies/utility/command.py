"""A training command of the user: it gets a data folder and writes its metrics."""

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
from medgan.core.json_files import read_json

FIELDS = ("data", "result", "seed")
GRACE = 10.0
"""Seconds between the request to stop and the kill of a command."""


def check_command(template: str) -> None:
    """Refuses a template without {data} or {result}, or with unknown fields.

    Raises:
        ConfigError: E_COMMAND.
    """
    try:
        template.format(**dict.fromkeys(FIELDS, ""))
        fits = all(f"{{{field}}}" in template for field in ("data", "result"))
    except (KeyError, IndexError, ValueError):
        fits = False
    if not fits:
        raise ConfigError(
            "E_COMMAND", "utility.command", "has no {data} or no {result}, or other fields",
            "write it as: python train.py --data {data} --result {result} --seed {seed}",
        )  # fmt: skip


def run_command(
    template: str, data: Path, folder: Path, seed: int, tests: int
) -> dict[str, list[float]]:
    """Runs a training command and reads its metrics; an interruption stops all its processes.

    Args:
        template: of a shell command, with the fields {data}, {result} and {seed}.
        data: folder with `dataset.json`; its list `test` names the test scans.
        folder: receives `result.json` from the command, and `log.txt` with its output.
        seed: of the training.
        tests: number of test scans.

    Returns:
        Metrics by name: one number each, or one a test scan in the order of the list.

    Raises:
        EnvironmentFailure: E_COMMAND when it fails or writes no metrics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result, log = folder.resolve() / "result.json", folder / "log.txt"
    result.unlink(missing_ok=True)
    values = {"data": str(data.resolve()), "result": str(result), "seed": str(seed)}
    command = template.format(**{field: _quoted(text) for field, text in values.items()})
    with log.open("wb") as file:
        status = _run(command, file)
    if status:
        raise _failure(f"ended with status {status}", f"read {log} and run the same again")
    try:
        return _metrics(read_json(result), tests)
    except (OSError, ValueError, TypeError, AttributeError):
        raise _failure(
            "wrote no metrics to {result}", 'let it write {"Dice": 0.81}, or a list of '
            f"{tests} numbers, one a test scan, under each name",
        ) from None  # fmt: skip


def _quoted(text: str) -> str:
    """For the shell of this system."""
    return shlex.quote(text) if os.name == "posix" else subprocess.list2cmdline([text])


def _run(command: str, output: IO[bytes]) -> int:
    process = subprocess.Popen(  # nosec B602 # the user's own command line; fields are quoted
        command, shell=True, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait()
    except BaseException:  # a training may hold a device
        _stop(process)
        raise


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a command and, but for Windows, what it has started."""
    if not hasattr(os, "killpg"):
        process.kill()
        process.wait()
        return
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(GRACE)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _metrics(found: Mapping[str, float | list[float]], tests: int) -> dict[str, list[float]]:
    metrics = {
        str(name): [float(v) for v in (value if isinstance(value, list) else [value])]
        for name, value in found.items()
    }
    lengths = {len(values) for values in metrics.values()}
    if len(lengths) != 1 or not lengths <= {1, tests}:
        raise ValueError("no metrics, or lists that do not have one number a test scan")
    if not np.isfinite([v for values in metrics.values() for v in values]).all():
        raise ValueError("not a number")
    return metrics


def _failure(what: str, remedy: str) -> EnvironmentFailure:
    return EnvironmentFailure("E_COMMAND", "utility.command", what, remedy)
