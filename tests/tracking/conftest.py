"""A SQLite store as MLflow makes it, copied for each test: making one takes seconds."""

import shutil
from pathlib import Path

import pytest

from medgan.tracking.client import connect, sqlite_uri


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory):
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(sqlite_uri(database), write=True)
    return database


@pytest.fixture
def database(fresh_store, tmp_path) -> Path:
    """A store of the test's own."""
    return Path(shutil.copy(fresh_store, tmp_path / "mlflow.db"))


@pytest.fixture
def model_folder(tmp_path) -> Path:
    """What stands for a model folder: only its files matter here."""
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder
