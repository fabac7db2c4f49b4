"""MLflow's store, checked without MLflow, which can change a store by opening it."""

import os
import re
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from medgan.app.doctor.finding import Finding
from medgan.app.doctor.machine import nearest
from medgan.app.doctor.places import why_not_writable
from medgan.tracking.client import database_file, writing_uri

NAME = "MLflow store"
SECONDS = 1.5
"""How long a server may take to answer."""
_MIGRATE = "mlflow migrate-filestore --source FOLDER --target sqlite:///mlflow.db"


def tracking(out: Path, uri: str) -> Finding:
    """The store that a run would be recorded in.

    Args:
        out: folder of the run.
        uri: the setting `tracking.uri`.
    """
    if uri == "none":
        return Finding(NAME, "ok", "tracking is off (tracking.uri=none)")
    named = "tracking.uri" if uri else "MLFLOW_TRACKING_URI"
    by = named if uri or os.environ.get("MLFLOW_TRACKING_URI") else "beside the output"
    uri = uri or writing_uri(out)
    if (database := database_file(uri)) is not None:
        return _database(database, f"sqlite:///.../{database.name} ({by})")
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return _server(uri, f"{parts.scheme} server ({by})")
    if parts.scheme in ("", "file"):
        return Finding(
            NAME, "failure", f"a file store ({by}), which MLflow 3 no longer writes to",
            f"{_MIGRATE}, then name that database",
        )  # fmt: skip
    return Finding(NAME, "warning", f"{parts.scheme} ({by}) is not checked", "see that it works")


def old_file_store(folder: Path) -> Iterator[Finding]:
    """The trap of an old `mlruns` in the current folder; medgan passes it by, `mlflow ui` not."""
    if next(folder.glob("mlruns/*/meta.yaml"), None):
        yield Finding(
            "old file store", "warning",
            "mlruns here is MLflow's old file store: mlflow started here takes it and stops",
            f"{_MIGRATE}, or name the store as make ui does",
        )  # fmt: skip


def telemetry() -> Finding:
    """MLflow's, which `import medgan` turns off; medgan has none of its own."""
    return Finding(
        "telemetry", "ok",
        "off in medgan and make ui; mlflow started by hand sends it unless "
        "MLFLOW_DISABLE_TELEMETRY=true",
    )  # fmt: skip


def _database(path: Path, shown: str) -> Finding:
    remedy = "choose another folder with -o, or another store with --set tracking.uri=..."
    if reason := why_not_writable(nearest(path.parent)):
        return Finding(NAME, "failure", f"{shown}: folder cannot be written ({reason})", remedy)
    if not path.exists():
        return Finding(NAME, "ok", f"{shown}: none yet; made on first use")
    if not os.access(path, os.W_OK):
        return Finding(NAME, "failure", f"{shown}: may not be written", remedy)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("select version_num from alembic_version").fetchone()
    except sqlite3.Error:
        what = f"{shown}: not a store of MLflow, or damaged"
        return Finding(NAME, "failure", what, "restore it from a backup, or name another")
    return _of_revision(found[0] if found else "", _revisions(), shown)


def _of_revision(found: str, known: dict[str, str], shown: str) -> Finding:
    """Whether the MLflow that is installed can use a database, and whether it would change it."""
    if not known:
        return Finding(NAME, "ok", f"{shown}: reachable")
    if found not in known:
        return Finding(
            NAME, "failure", f"{shown}: a newer MLflow has changed it; the one here refuses it",
            "install the MLflow that wrote it; keep to one version a site",
        )  # fmt: skip
    if found in known.values():
        return Finding(
            NAME, "warning", f"{shown}: older; the next run changes it, and older ones then refuse "
            "it", "back it up first",
        )  # fmt: skip
    return Finding(NAME, "ok", f"{shown}: reachable")


def _revisions() -> dict[str, str]:
    """Revisions of the database that the installed MLflow knows, each with the one before it."""
    spec = find_spec("mlflow")
    known = {}
    for place in spec.submodule_search_locations or () if spec else ():
        for path in Path(place).glob("store/db_migrations/versions/*.py"):
            text = path.read_text(encoding="utf-8")
            revision = re.search(r"^revision\b.*?[\"'](\w+)", text, re.MULTILINE)
            before = re.search(r"^down_revision\b.*?[\"'](\w+)", text, re.MULTILINE)
            if revision:
                known[revision[1]] = before[1] if before else ""
    return known


def _server(uri: str, shown: str) -> Finding:
    parts = urlsplit(uri)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        health = f"{address.rstrip('/')}/health"
        with urllib.request.urlopen(health, timeout=SECONDS) as answer:  # nosec B310 # http(s) only
            answer.read(16)
    except HTTPError as error:
        return Finding(
            NAME, "warning", f"{shown}: answers with status {error.code}",
            "check rights and the server's --allowed-hosts",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        return Finding(
            NAME, "failure", f"{shown}: no answer ({type(error).__name__})",
            "start it, check its address, or go without: --set tracking.uri=none",
        )  # fmt: skip
    return Finding(NAME, "ok", f"{shown}: reachable")
