"""The one place where MLflow is started: telemetry off, short timeouts, the store explicit."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.core.errors import EnvironmentFailure
from medgan.core.files import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_STORE = Path("runs/mlflow.db")


def connect(uri: str) -> "MlflowClient":
    """A client of a tracking store.

    Args:
        uri: `sqlite:///path/mlflow.db` or any MLflow server.

    Raises:
        EnvironmentFailure: E_TRACKING.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        database = database_file(uri)
        if database is None:
            client.search_experiments(max_results=1)
        else:
            database.parent.mkdir(parents=True, exist_ok=True)
            # Two processes that create one SQLite store at the same moment break its migration.
            with locked(database.parent / ".mlflow.lock", wait=True):
                client.search_experiments(max_results=1)
        return client
    except EnvironmentFailure:
        raise
    except Exception as error:
        raise unreachable(error) from None


def database_file(uri: str) -> Path | None:
    """The file behind a SQLite URI, or None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def unreachable(error: Exception) -> EnvironmentFailure:
    """What MLflow failed with, without its text: that can hold paths and values."""
    return EnvironmentFailure(
        "E_TRACKING", "MLflow", f"failed ({type(error).__name__})",
        "check tracking.uri and the server; --set tracking.uri=none works without",
    )  # fmt: skip


def reading_uri(out: Path | None = None) -> str:
    """The store to read from unless told; empty where there is none.

    MLFLOW_TRACKING_URI, else a store beside the output, else runs/mlflow.db.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    places = [DEFAULT_STORE] if out is None else [_beside(out), DEFAULT_STORE]
    found = (f"sqlite:///{place.resolve()}" for place in places if place.is_file())
    return named or next(found, "")


def writing_uri(out: Path) -> str:
    """The store to record in unless told: MLFLOW_TRACKING_URI, or one beside the output."""
    return os.environ.get("MLFLOW_TRACKING_URI", "") or f"sqlite:///{_beside(out)}"


def store_exists(uri: str) -> bool:
    """Whether a store is a server or a database that is there: reading must not make one."""
    database = database_file(uri)
    return database is None or database.is_file()


def _beside(out: Path) -> Path:
    return out.resolve().parent / DEFAULT_STORE.name
