"""Connecting to MLflow: short timeouts, an explicit store. Telemetry is off from `medgan` on."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.core.files import locked
from medgan.tracking.failures import READ_ONLY, failure, mlflow_failures

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_STORE = Path("runs/mlflow.db")
_SQLITE = "sqlite:///"


def connect(uri: str, write: bool = False) -> "MlflowClient":
    """A client of a tracking store.

    Args:
        uri: `sqlite:///path/mlflow.db` or any MLflow server.
        write: whether a SQLite store that is missing is made.

    Raises:
        ConfigError: E_VALUE.
        EnvironmentFailure: E_TRACKING.
    """
    _check_uri(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # --json is there
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):  # they log statements, paths, addresses
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    database = database_file(uri)

    def client() -> "MlflowClient":
        made = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        made.search_experiments(max_results=1)
        return made

    with mlflow_failures():
        if database is None or not write:
            return client()
        try:
            # Two processes that create one SQLite store at the same moment break its migration.
            with locked(database.parent / ".mlflow.lock", wait=True):
                return client()
        except EnvironmentFailure as error:
            raise failure(*READ_ONLY) if error.code == "E_DISK" else error from None


def sqlite_uri(database: Path) -> str:
    """The URI of a SQLite file; % and ? have a meaning in URIs and are encoded.

    For such a path MLflow also leaves an empty folder of the encoded name.
    """
    path = database.resolve().as_posix()
    return _SQLITE + path.replace("%", "%25").replace("?", "%3F")


def database_file(uri: str) -> Path | None:
    """The file behind a SQLite URI, or None for a server."""
    return Path(unquote(uri.removeprefix(_SQLITE))) if uri.startswith(_SQLITE) else None


def _check_uri(uri: str) -> None:
    """Refuses a path that SQLite would read as another one."""
    file = database_file(uri)
    if file is None:
        return
    written = Path(uri.removeprefix(_SQLITE))
    if "?" in uri or (written != file and written.parent.is_dir() and not file.parent.is_dir()):
        raise ConfigError(
            "E_VALUE", "tracking.uri", "its path holds % or ?, which have a meaning in a URI",
            "write %25 for % and %3F for ?, or choose another path",
        )  # fmt: skip


def reading_uri(out: Path | None = None) -> str:
    """The default store to read from; empty if there is none.

    MLFLOW_TRACKING_URI, else a store beside the output, else runs/mlflow.db.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    files = [DEFAULT_STORE] if out is None else [_beside(out), DEFAULT_STORE]
    found = (sqlite_uri(file) for file in files if file.is_file())
    return named or next(found, "")


def writing_uri(out: Path) -> str:
    """The default store to record in: MLFLOW_TRACKING_URI, or one beside the output."""
    return os.environ.get("MLFLOW_TRACKING_URI", "") or sqlite_uri(_beside(out))


def store_exists(uri: str) -> bool:
    """Whether a store is a server or an existing database; reading must not create one."""
    database = database_file(uri)
    return database is None or database.is_file()


def _beside(out: Path) -> Path:
    return out.resolve().parent / DEFAULT_STORE.name
