"""Fixtures shared by all tests: tiny volumes, a tiny configuration, a private home."""

import gc
import os
import shutil
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from tests.kit import connections, shape_checks

pytest_plugins = ["tests.faults.plugin"]

shape_checks.install()
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


os.fsync = os.fstat
"""What tests write outlives processes, but no power cut: waiting for the disk takes a tenth of a
short training. A handle that is none is still an error."""


gc.disable()  # what is imported stays: looking through it again and again takes seconds


def pytest_configure(config):
    config.pluginmanager.register(connections)


def pytest_collection_finish():
    gc.freeze()  # nor again in each full collection: with the next line a tenth of all time
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    slices = sys.modules.get("medgan.reporting.slices")
    if slices is not None:
        slices.DPI = slices.PAGE_DPI = 30  # the pictures of hundreds of trainings and studies
    forecast = sys.modules.get("medgan.training.forecast")
    if forecast is not None:
        forecast._SHORT = 0.0  # dry runs take each step once, not again when all is warm


def pytest_sessionfinish():
    gc.unfreeze()  # Hypothesis looks at what refers to what when it is imported, at the latest now


@pytest.fixture(scope="session")
def homes(tmp_path_factory):
    """Numbered folders in one of their own: pytest's own numbers take longer with every folder."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def private_home(homes, monkeypatch):
    """The site's secret never comes from, or goes to, the real home."""
    home = next(homes)
    home.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))


@pytest.fixture(autouse=True)
def same_draws():
    """What draws without a generator of its own draws the same in every run."""
    import torch

    torch.default_generator.manual_seed(0)
    if (
        torch.cuda.is_available()
    ):  # `torch.manual_seed` keeps a stack for each device that is absent
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory):
    """A SQLite store as MLflow makes it, to be copied: making one takes seconds."""
    from medgan.core.files import locked
    from medgan.tracking.client import connect, sqlite_uri

    own = tmp_path_factory.getbasetemp()
    side_by_side = "PYTEST_XDIST_WORKER" in os.environ
    folder = (own.parent if side_by_side else own) / "store"
    folder.mkdir(exist_ok=True)
    with locked(folder / ".making", wait=True):
        if not (folder / "made").exists():
            connect(sqlite_uri(folder / "mlflow.db"), write=True)
            (folder / "made").touch()
    return folder / "mlflow.db"


@pytest.fixture
def database(fresh_store, tmp_path) -> Path:
    """A store of the test's own."""
    return Path(shutil.copy(fresh_store, tmp_path / "mlflow.db"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def generator():
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real scans; the test is skipped, saying so, where there is none."""
    folder = os.environ.get("MEDGAN_DATA", "")
    if not folder or not (Path(folder) / "splits.json").is_file():
        pytest.skip("MEDGAN_DATA names no folder of real scans")
    return Path(folder)
