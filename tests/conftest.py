"""Fixtures shared by all tests: tiny volumes, a tiny configuration, a private home."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory, monkeypatch):
    """The site's secret never comes from, or goes to, the real home."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))


@pytest.fixture(autouse=True)
def same_draws():
    """What draws without a generator of its own draws the same in every run."""
    torch.manual_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real scans; the test is skipped, saying so, where there is none."""
    folder = os.environ.get("MEDGAN_DATA", "")
    if not folder or not (Path(folder) / "splits.json").is_file():
        pytest.skip("MEDGAN_DATA names no folder of real scans")
    return Path(folder)


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory):
    """A SQLite store as MLflow makes it: making one takes seconds."""
    from medgan.tracking.client import connect, sqlite_uri

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(sqlite_uri(database), write=True)
    return database


@pytest.fixture
def database(fresh_store, tmp_path) -> Path:
    """A store of the test's own."""
    return Path(shutil.copy(fresh_store, tmp_path / "mlflow.db"))
