"""MLflow's exceptions as errors with a code and a remedy, without their text.

The text can hold paths and values, so it is only searched for what is known.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medgan.core.errors import EnvironmentFailure, MedganError

_OTHER = "name another store with --set tracking.uri=sqlite:///path/mlflow.db"
_WITHOUT = "--set tracking.uri=none works without MLflow"
READ_ONLY = ("the store is read-only", f"ask for permission to write to it, or {_OTHER}")
_NO_ANSWER, _LOCKED = "the server does not answer", "another program has locked the store"
_KNOWN = (
    ("readonly database|Read-only file system", *READ_ONLY),
    (
        "database is locked", _LOCKED,
        "wait until it is done and run the same command again",
    ),
    (
        "not a database|malformed", "the store is damaged or is no database",
        f"restore it from a backup, or {_OTHER}",
    ),
    (
        "unable to open database", "the store cannot be opened",
        f"check that its folder exists and can be written, or {_OTHER}",
    ),
    ("disk is full", "the disk of the store is full", "free some space and run it again"),
    (
        "filesystem tracking backend|maintenance mode",
        "a folder of files, which MLflow 3 no longer writes to",
        "run mlflow migrate-filestore --source FOLDER --target sqlite:///mlflow.db and name that",
    ),
    (
        "[Uu]nsupported URI|[Ii]nvalid database engine|Could not parse", "no store of MLflow",
        "set tracking.uri to sqlite:///path/mlflow.db or to the http address of a server",
    ),
    (
        "PERMISSION_DENIED|UNAUTHENTICATED|error code 40[13]", "the server refuses access",
        "check the user name, password or token in MLFLOW_TRACKING_USERNAME and the like",
    ),
    (
        "Max retries exceeded|[Cc]onnection|timed out", _NO_ANSWER,
        f"start it or check tracking.uri; {_WITHOUT}",
    ),
)  # fmt: skip
_SCHEMA = re.compile(r"out-of-date database schema \(found version (\w+)")


@contextmanager
def mlflow_failures() -> Iterator[None]:
    """Turns exceptions of MLflow into `EnvironmentFailure`."""
    try:
        yield
    except MedganError:
        raise
    except Exception as error:
        raise explain(error) from None


def explain(error: Exception) -> EnvironmentFailure:
    """What failed, in words of a fixed list, and what helps."""
    text = f"{getattr(error, 'error_code', '')} {error}"
    if schema := _SCHEMA.search(text):
        return failure(*_other_version(schema[1]))
    for pattern, what, remedy in _KNOWN:
        if re.search(pattern, text):
            return failure(what, remedy)
    return failure(f"failed ({type(error).__name__})", f"check tracking.uri; {_WITHOUT}")


def may_pass(error: EnvironmentFailure) -> bool:
    """Whether the store may work again later without anybody changing a setting."""
    return error.what in (_NO_ANSWER, _LOCKED)


def no_answer() -> EnvironmentFailure:
    """The error of a server that does not answer."""
    return explain(ConnectionError("timed out"))


def failure(what: str, remedy: str, where: str = "MLflow") -> EnvironmentFailure:
    """An error of the tracking store."""
    return EnvironmentFailure("E_TRACKING", where, what, remedy)


def _other_version(revision: str) -> tuple[str, str]:
    import mlflow

    versions = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(versions.glob(f"{revision}*.py")):
        return (
            "the store was written by an older MLflow",
            "back it up and run mlflow db upgrade on it; older versions then refuse it",
        )
    return (
        "the store was written by a newer MLflow",
        f"install that version of MLflow, or {_OTHER}",
    )
