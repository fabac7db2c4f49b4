"""Loading a model from a folder or from MLflow."""

from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

from medgan.model.model import Model
from medgan.tracking.registry import download


def load(path_or_uri: str | PathLike[str], tracking_uri: str = "", device: str = "cpu") -> Model:
    """Loads a model from a folder or from MLflow.

    Args:
        path_or_uri: a model folder, `models:/name@alias`, `models:/name/3` or
            `runs:/id/model/content`.
        tracking_uri: where MLflow keeps its records; empty takes MLFLOW_TRACKING_URI, else
            `sqlite:///runs/mlflow.db` where that file exists.
        device: of the networks, such as `cuda`.

    Raises:
        ModelError: E_MODEL when the folder is not a model.
        EnvironmentFailure: E_TRACKING when MLflow cannot be reached or knows no such model.
    """
    if isinstance(path_or_uri, str) and path_or_uri.startswith(("models:/", "runs:/")):
        with TemporaryDirectory() as folder:
            return Model.load(download(path_or_uri, tracking_uri, Path(folder)), device)
    return Model.load(Path(path_or_uri), device)
