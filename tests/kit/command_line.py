"""The command line, run in a process of its own or inside this one."""

import subprocess
import sys
from types import SimpleNamespace

from typer.testing import CliRunner

from medgan.app.cli import app

MEDGAN = [sys.executable, "-m", "medgan"]


def medgan(*arguments, **kwargs):
    """A process of its own."""
    return subprocess.run(
        [*MEDGAN, *map(str, arguments)], capture_output=True, text=True, timeout=240, **kwargs
    )


def inside(*arguments):
    """The same in this process, which has imported everything: seconds a command saved."""
    done = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="medgan")
    return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)
