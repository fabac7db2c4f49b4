"""Ray for tests: it asks no cloud what machine this is, and its own processes are not watched."""

import os
from pathlib import Path

import pytest

from tests.kit.network_guard.sitecustomize import LOG

ROOT = Path(__file__).parents[2]


def ray_alone(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Prepares the environment of Ray's processes.

    Ray looks for a cloud's description of this machine unless a file describes the cluster. Its
    agents look up the machine's own address, which the watch would refuse.
    """
    home.mkdir(exist_ok=True)
    (home / "ray_bootstrap_config.yaml").write_text("{}")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv(LOG, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
