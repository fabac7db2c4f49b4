"""A plugin of pytest: no test, nor a process that it starts, reaches another host.

Attempts are refused and counted; a test that tried fails.
"""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from tests.kit.network_guard.sitecustomize import LOG, watch

_GUARD = Path(__file__).with_name("network_guard")


def pytest_configure() -> None:
    """From now on in this process, and from their start in Python processes that it starts."""
    if LOG not in os.environ:
        handle, name = tempfile.mkstemp(prefix="medgan-connections-")
        os.close(handle)
        os.environ[LOG] = name
        path = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_GUARD), path)))
    sys.addaudithook(watch)


def tried(own: bool = False) -> list[str]:
    """What was tried so far, a line each.

    Args:
        own: by this process of the test run and its children alone.
    """
    lines = Path(os.environ[LOG]).read_text().splitlines()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return [line for line in lines if not own or line.startswith(f"{worker} ")]


@pytest.fixture(autouse=True)
def no_other_host():
    """A test that tries to reach another host fails."""
    before = len(tried(own=True))
    yield
    assert tried(own=True)[before:] == []


def pytest_sessionfinish(session, exitstatus):
    """The run fails, too, where no test can be named."""
    if tried() and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    for line in (f"{len(tried())} connections to other hosts tried", *tried()):
        terminalreporter.write_line(line)


def pytest_unconfigure():
    if "PYTEST_XDIST_WORKER" not in os.environ:
        Path(os.environ.pop(LOG)).unlink()
