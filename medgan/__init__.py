"""Synthetic scans and calibrated anomaly maps from one volumetric GAN.

Example:
    model = medgan.load("runs/demo/model")
    scans = model.generate(4, seed=1)
    result = model.score("scan.nii.gz")
    medgan.show("scan.nii.gz", result.score_map)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medgan.version import __version__

if TYPE_CHECKING:
    from os import PathLike

    from medgan.model import Model
    from medgan.view import show
    from medgan.volume import Volume

__all__ = ["Model", "Volume", "__version__", "load", "show"]
_LAZY = {"Model": "medgan.model", "Volume": "medgan.volume", "show": "medgan.view"}


def load(
    path_or_uri: "str | PathLike[str]", tracking_uri: str = "", device: str = "cpu"
) -> "Model":
    """Loads a model from a folder or from MLflow.

    Args:
        path_or_uri: a model folder, `models:/name@alias`, `models:/name/3` or
            `runs:/id/model/content`.
        tracking_uri: where MLflow keeps its records; empty takes MLFLOW_TRACKING_URI, else
            `sqlite:///runs/mlflow.db` where that file exists.
        device: where the networks go, such as `cuda`.

    Raises:
        ModelError: E_MODEL when the folder is not a model.
        EnvironmentFailure: E_TRACKING when MLflow cannot be reached or knows no such model.
    """
    from pathlib import Path

    from medgan.model import Model

    if isinstance(path_or_uri, str) and path_or_uri.startswith(("models:/", "runs:/")):
        from tempfile import TemporaryDirectory

        from medgan.tracking.registry import download

        with TemporaryDirectory() as folder:
            return Model.load(download(path_or_uri, tracking_uri, Path(folder)), device)
    return Model.load(Path(path_or_uri), device)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute of any type
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'medgan' has no attribute {name!r}")
