"""Synthetic scans and calibrated anomaly maps from one volumetric GAN.

Example:
    model = medgan.load("runs/demo/model")
    scans = model.generate(4, seed=1)
    result = model.score("scan.nii.gz")
    medgan.show("scan.nii.gz", result.score_map)
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from medgan.core.version import __version__

# Before MLflow is imported by whatever road, such as with MONAI: else it makes an id of this
# installation and tells its maker about its use.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

if TYPE_CHECKING:
    from medgan.core.volume import Volume
    from medgan.data.lesion_drawing import LesionDrawing
    from medgan.data.lesion_scale import read_lesion_bank
    from medgan.data.lesion_transform import RandLesiond
    from medgan.model.model import Model
    from medgan.reporting.view import show
    from medgan.tracking.loading import load

__all__ = [
    "LesionDrawing",
    "Model",
    "RandLesiond",
    "Volume",
    "__version__",
    "load",
    "read_lesion_bank",
    "show",
]
_LAZY = {
    "LesionDrawing": "medgan.data.lesion_drawing",
    "RandLesiond": "medgan.data.lesion_transform",
    "Model": "medgan.model.model",
    "Volume": "medgan.core.volume",
    "read_lesion_bank": "medgan.data.lesion_scale",
    "load": "medgan.tracking.loading",
    "show": "medgan.reporting.view",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute of any type
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'medgan' has no attribute {name!r}")
