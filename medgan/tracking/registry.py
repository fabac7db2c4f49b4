"""The MLflow model registry: register a model folder, set an alias, load it back."""

import os
from pathlib import Path

from medgan.errors import EnvironmentFailure
from medgan.tracking.client import DEFAULT_STORE, connect, default_uri, unreachable
from medgan.tracking.mlflow import MODEL_ARTIFACT, MlflowRun


def register(run: MlflowRun, uri: str, name: str, alias: str, tags: dict[str, str]) -> str:
    """Registers the model folder that a run has recorded, as a new version.

    The folder is stored as plain files: whoever loads it reads tensors and JSON, and nothing
    in it can run code.

    Args:
        run: after `MlflowRun.model`.
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
        source = f"{client.get_run(run.run_id).info.artifact_uri}/{MODEL_ARTIFACT}"
        version = client.create_model_version(name, source, run.run_id, tags=tags)
        client.set_registered_model_alias(name, alias, version.version)
        return str(version.version)
    except Exception as error:
        raise unreachable(error) from None


def download(model_uri: str, tracking_uri: str = "") -> Path:
    """Brings a registered or recorded model folder to this machine.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3` or `runs:/id/model`.
        tracking_uri: empty takes MLFLOW_TRACKING_URI, else `runs/mlflow.db` if it exists.

    Raises:
        EnvironmentFailure: E_TRACKING when MLflow is out of reach or knows no such model.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri and not DEFAULT_STORE.exists():
        raise EnvironmentFailure(
            "E_TRACKING", model_uri, "no tracking store here",
            "name one with --set tracking.uri=sqlite:///path/mlflow.db",
        )  # fmt: skip
    uri = uri or default_uri()
    client = connect(uri)
    try:
        if model_uri.startswith("models:/"):
            name, _, alias = model_uri.removeprefix("models:/").partition("@")
            if not alias:
                name, _, number = name.rpartition("/")
                source = client.get_model_version(name, number).source
            else:
                source = client.get_model_version_by_alias(name, alias).source
        else:
            run_id, _, path = model_uri.removeprefix("runs:/").partition("/")
            source = f"{client.get_run(run_id).info.artifact_uri}/{path}"
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(artifact_uri=source, tracking_uri=uri))
    except Exception as error:
        raise EnvironmentFailure(
            "E_TRACKING", model_uri, f"not found ({type(error).__name__})",
            "check the name, the alias and tracking.uri",
        ) from None  # fmt: skip
