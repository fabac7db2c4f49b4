"""The MLflow model registry: register a model folder, set an alias, load it back."""

from pathlib import Path
from typing import TYPE_CHECKING

from medgan.core.errors import EnvironmentFailure, MedganError
from medgan.tracking.client import connect, reading_uri, store_exists, unreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient


def register(model_uri: str, uri: str, name: str, alias: str, tags: dict[str, str]) -> str:
    """Registers a model folder that a run has recorded, as a new version.

    The folder is stored as plain files: whoever loads it reads tensors and JSON, and nothing
    in it can run code.

    Args:
        model_uri: from `MlflowRun.model`.
        uri: of the tracking store.
        name: of the registered model; made if missing.
        alias: points at the new version afterwards.
        tags: of the version.

    Returns:
        The version.

    Raises:
        EnvironmentFailure: E_TRACKING.
    """
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    try:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        run_id, _, _ = model_uri.removeprefix("runs:/").partition("/")
        version = client.create_model_version(name, _source(client, model_uri), run_id, tags=tags)
        client.set_registered_model_alias(name, alias, version.version)
        return str(version.version)
    except MedganError:
        raise
    except Exception as error:
        raise unreachable(error) from None


def download(model_uri: str, tracking_uri: str, folder: Path) -> Path:
    """Brings a registered or recorded model folder to this machine.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3` or `runs:/id/model/content`.
        tracking_uri: of the store; empty takes `reading_uri()`.
        folder: receives a copy.

    Returns:
        The model folder, in `folder`.

    Raises:
        EnvironmentFailure: E_TRACKING when MLflow is out of reach or knows no such model.
    """
    uri = tracking_uri or reading_uri()
    if not uri or not store_exists(uri):
        raise EnvironmentFailure(
            "E_TRACKING", model_uri, "no tracking store here",
            "name one with --set tracking.uri=sqlite:///path/mlflow.db",
        )  # fmt: skip
    client = connect(uri)
    try:
        from mlflow.artifacts import download_artifacts

        source = _source(client, model_uri)
        return Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=uri))
    except MedganError:
        raise
    except Exception as error:
        raise EnvironmentFailure(
            "E_TRACKING", model_uri, f"not found ({type(error).__name__})",
            "check the name, the alias and tracking.uri",
        ) from None  # fmt: skip


def _source(client: "MlflowClient", model_uri: str) -> str:
    """Where the files behind a model's URI lie."""
    if model_uri.startswith("runs:/"):
        run_id, _, path = model_uri.removeprefix("runs:/").partition("/")
        return f"{client.get_run(run_id).info.artifact_uri}/{path}"
    name, _, alias = model_uri.removeprefix("models:/").partition("@")
    if alias:
        return str(client.get_model_version_by_alias(name, alias).source)
    name, _, number = name.rpartition("/")
    return str(client.get_model_version(name, number).source)
