"""The command that each file in `pipelines/` opens with."""

import re
import shlex
from pathlib import Path

ELSEWHERE = {
    "gate": "tests/app/test_gate_on_phantoms.py",
    "nightly": "tests/app/test_nightly.py",
    "super_resolution": "tests/training/test_super_resolution.py",
    "register": "tests/app/test_pipeline.py",
}
"""Pipelines whose opening command needs more than tiny scans and models, and the test of a run."""


def opening(path: Path) -> list[str]:
    """The lines of comment that a file begins with."""
    match = re.match(r"(?:#.*\n)+", path.read_text())
    return [] if match is None else [line[1:].strip() for line in match[0].splitlines()]


def opening_command(path: Path) -> tuple[str, ...]:
    """The words of the command in them; backslashes join lines."""
    text = "\n".join(opening(path)).replace("\\\n", " ").partition("\n")[0]
    return tuple(shlex.split(text))
