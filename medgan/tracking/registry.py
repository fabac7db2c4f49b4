"""The MLflow model registry: register a model folder, set an alias, download it."""

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.core.errors import ConfigError
from medgan.tracking.client import connect, reading_uri
from medgan.tracking.failures import failure, mlflow_failures
from medgan.tracking.names import check_names
from medgan.tracking.promotions import CHAMPION
from medgan.tracking.versions import find_version, history_of, reader, require_vouched

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "model"
"""Of the model folder among the artifacts of an MLflow model."""
_MODEL = re.compile(r"models:/([^@]+?)(?:@([^@/]+)|/(\d+))|runs:/([\w-]+)/(.+)")


def register(
    model_uri: str, uri: str, name: str, alias: str, tags: dict[str, str], card: str = ""
) -> str:
    """Registers a model that a run has recorded, as a new version.

    A failed registration leaves no version behind.

    Args:
        model_uri: from `MlflowRun.mlflow_model`.
        uri: of the tracking store.
        name: of the registered model; made if missing.
        alias: points at the new version afterwards.
        tags: of the version.
        card: its description, Markdown.

    Returns:
        The version.

    Raises:
        ConfigError: E_VALUE when MLflow does not accept a name; E_GATE for the champion.
        EnvironmentFailure: E_TRACKING.
    """
    from mlflow.exceptions import MlflowException

    check_names(name=name, alias=alias)
    if alias == CHAMPION:
        raise ConfigError(
            "E_GATE", "--alias", f"{CHAMPION} is given by the gate alone",
            "register it as challenger, then run medgan promote",
        )  # fmt: skip
    client = connect(uri, write=True)
    new, version = False, None
    with mlflow_failures():
        try:
            try:
                client.create_registered_model(name)
                new = True
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            run_id, _, _ = model_uri.removeprefix("runs:/").partition("/")
            source = _source(client, model_uri)
            version = client.create_model_version(
                name, source, run_id, tags=tags, description=card
            ).version
            client.set_registered_model_alias(name, alias, str(version))
            return str(version)
        except BaseException:
            with suppress(Exception):
                if version is not None:
                    client.delete_model_version(name, str(version))
                if new and not client.search_model_versions(f"name='{name}'"):
                    client.delete_registered_model(name)
            raise


def download(model_uri: str, tracking_uri: str, folder: Path) -> Path:
    """Copies a registered or recorded model folder to this machine.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3` or `runs:/id/model/content`.
        tracking_uri: of the store; empty takes `reading_uri()`.
        folder: receives a copy.

    Returns:
        The model folder, in `folder`.

    Raises:
        ConfigError: E_USAGE when `model_uri` has another form.
        ModelError: E_TAMPERED when the files are not those that were registered or promoted,
            E_GATE for a champion that the gate has not promoted.
        EnvironmentFailure: E_TRACKING when MLflow is out of reach or has no such model.
    """
    asked = _MODEL.fullmatch(model_uri)
    if not asked:
        raise ConfigError(
            "E_USAGE", model_uri, "is no URI of a model",
            "give models:/name@alias, models:/name/3 or runs:/id/model/content",
        )  # fmt: skip
    uri = tracking_uri or reading_uri()
    client = reader(uri, model_uri)
    name, alias, number = asked[1], asked[2] or "", asked[3] or ""
    if name is None:
        return _fetched(_source(client, model_uri), model_uri, uri, folder)
    version = find_version(uri, name, number, alias)
    found = _fetched(version.source, model_uri, uri, folder)
    require_vouched(version, alias, content_of(found), history_of(uri, name))
    return found


def content_of(folder: Path) -> str:
    """What vouches for a model folder: SHA-256 of its `config.json`, which has all other hashes."""
    file = folder / "config.json"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _fetched(source: str, model_uri: str, uri: str, folder: Path) -> Path:
    """A copy of a model folder from the artifact store.

    Raises:
        EnvironmentFailure: E_TRACKING.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with mlflow_failures():
        try:
            path = download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=uri)
        except (OSError, MlflowException):
            raise failure(
                "its files cannot be read from the artifact store",
                "check that the artifacts of the store were not moved or deleted", model_uri,
            ) from None  # fmt: skip
    return model_folder(Path(path))


def model_folder(folder: Path) -> Path:
    """The model folder in one that was downloaded: within an MLflow model, or the folder itself.

    Nothing else of an MLflow model is read: its code is not run.
    """
    inside = folder / "artifacts" / FOLDER
    return inside if inside.is_dir() else folder


def _source(client: "MlflowClient", model_uri: str) -> str:
    """Where the files behind `runs:/id/path` are stored.

    Raises:
        EnvironmentFailure: E_TRACKING.
    """
    from mlflow.exceptions import MlflowException

    found = _MODEL.fullmatch(model_uri)
    assert found is not None
    run, path = found[4], found[5]
    with mlflow_failures():
        try:
            return f"{client.get_run(run).info.artifact_uri}/{path}"
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise failure(
                "not found in the store", "check the run and tracking.uri", model_uri
            ) from None
