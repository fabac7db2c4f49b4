"""A model folder as an MLflow model, which `mlflow.pyfunc.load_model` loads wherever medgan is.

MLflow runs `served.py` when it loads one. `medgan` itself does not: it reads the folder of tensors
and JSON within, which cannot run code.
"""

import math
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from mlflow.models import ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.pyfunc import save_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from medgan.core.errors import ConfigError, MedganError
from medgan.core.volume import Volume
from medgan.tracking.registry import FOLDER

if TYPE_CHECKING:
    from medgan.model.model import Model

CODE = Path(__file__).with_name("served.py")
SPACING, SEED = "spacing", "seed"
_REQUIREMENTS = ("medgan", "mlflow")
Row = Mapping[str, Any]


def write_mlflow_model(folder: Path, out: Path) -> None:
    """Writes a model folder as an MLflow model with signature, example, requirements and card.

    Args:
        folder: of a model.
        out: receives the MLflow model; it must not exist.
    """
    from medgan.model.model import Model

    model = Model.load(folder)
    with TemporaryDirectory() as staged:
        # MLflow names the artifact like its folder, which may be named after a patient.
        inside = Path(staged) / FOLDER
        shutil.copytree(folder, inside)
        save_model(
            path=out, python_model=str(CODE), artifacts={FOLDER: str(inside)},
            signature=_signature(model), input_example=_example(model),
            pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
            metadata={key: str(value) for key, value in model.facts.items()},
        )  # fmt: skip
    _forget_paths(out / MLMODEL_FILE_NAME)


def _forget_paths(description: Path) -> None:
    """Takes paths of this machine out of MLflow's description; it looks beside it anyway."""
    values = yaml.safe_load(description.read_text(encoding="utf-8"))
    flavor = values["flavors"]["python_function"]
    flavor["model_code_path"] = CODE.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    description.write_text(yaml.safe_dump(values), encoding="utf-8")


class ServedModel(PythonModel):
    """What MLflow calls: scores scans, or draws some.

    A row with a scan is scored: its columns are the model's image channels, each the path of a
    NIfTI file or an array (X, Y, Z) in the scanner's intensities. Arrays lie on the model's spacing
    unless `spacing` gives their own, three numbers in mm. Further columns are covariates. A row
    with a `seed` is drawn: its further columns are conditions.
    """

    model: "Model"

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the model folder."""
        from medgan.model.model import Model

        self.model = Model.load(context.artifacts[FOLDER])

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] - the base has no result
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """A row for each row: scores, or drawn scans; where one fails, `error` says why.

        Scores have `score`, `p_value` (missing where the scan is not comparable with healthy ones),
        `reasons` for that, `regions` (a list of dictionaries) and, with `params={"maps": True}`,
        `map`: an array on the grid of the scan, in healthy standard deviations. Drawn scans have
        `image`, `label` (or None) and the model's `spacing`.

        Args:
            context: of MLflow.
            model_input: at least one row.
            params: `maps`.
        """
        maps = bool((params or {}).get("maps"))
        rows = enumerate(model_input.to_dict("records"))
        return pd.DataFrame([self._row(number, row, maps) for number, row in rows])

    def _row(self, number: int, row: Row, maps: bool) -> dict[str, Any]:
        known = {str(name): value for name, value in row.items() if _given(value)}
        try:
            if SEED in known:
                return self._drawn(f"row {number}", known) | {"error": ""}
            return self._scored(f"row {number}", known, maps) | {"error": ""}
        except MedganError as error:
            return {"error": str(error)}

    def _scored(self, name: str, row: Row, maps: bool) -> dict[str, Any]:
        channels = self.model.preprocessing.channels
        missing = [channel for channel in channels if channel not in row]
        if missing:
            raise ConfigError(
                "E_CHANNEL", name, f"has no {', '.join(missing)}",
                f"give columns {', '.join(channels)}, or {SEED} to draw a scan",
            )  # fmt: skip
        spacing = row.get(SPACING, self.model.preprocessing.spacing)
        scan = {channel: _scan(row[channel], spacing, name) for channel in channels}
        covariates = {k: v for k, v in row.items() if k not in (*channels, SPACING)}
        found = self.model.score(self.model.prepare(scan, name), covariates=covariates)
        regions = [
            {"volume_mm3": one.volume_mm3, "peak": one.peak, "peak_mm": list(one.peak_mm)}
            for one in found.regions
        ]
        result = {
            "score": found.score, "p_value": found.p_value, "reasons": "; ".join(found.reasons),
            "regions": regions,
        }  # fmt: skip
        return result | ({"map": found.score_map.data} if maps else {})

    def _drawn(self, name: str, row: Row) -> dict[str, Any]:
        seed, conditions = float(row[SEED]), {k: v for k, v in row.items() if k != SEED}
        if not seed.is_integer():
            raise ConfigError("E_VALUE", name, f"has {SEED} {seed}", "give a whole number")
        drawn = self.model.generate(1, int(seed), conditions=conditions)[0]
        label = None if drawn.label is None else drawn.label.data
        return {"image": drawn.image.data, "label": label, SPACING: list(drawn.image.spacing)}


def _given(value: Any) -> bool:  # noqa: ANN401 - of a cell
    """Whether a cell of a table holds something."""
    return not (value is None or (isinstance(value, float) and math.isnan(value)))


def _scan(value: Any, spacing: Iterable[float], name: str) -> str | Volume:  # noqa: ANN401
    """A scan of a cell: a path as it is, an array with its spacing."""
    if isinstance(value, str):
        return value
    try:
        data, affine = np.asarray(value, dtype=np.float32), np.diag([*map(float, spacing), 1.0])
    except (TypeError, ValueError):
        data, affine = np.zeros(0), np.eye(4)
    if data.ndim != 3 or affine.shape != (4, 4):
        raise ConfigError(
            "E_VALUE", name, "holds no scan",
            f"give the path of a NIfTI file, or an array (X, Y, Z) and three numbers of {SPACING}",
        )  # fmt: skip
    return Volume(data, affine)


def _signature(model: "Model") -> ModelSignature:
    grid, calibration = model.preprocessing, model.calibration
    known = [condition.name for condition in grid.conditions]
    known += () if calibration is None else calibration.adjusts
    names = dict.fromkeys((*grid.channels, SPACING, *known))
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), name, required=False) for name in names
    ]
    if model.networks.synthesises:
        columns.append(ColSpec(DataType.double, SEED, required=False))  # whole; holes allowed
    maps = ParamSchema([ParamSpec("maps", DataType.boolean, default=False)])
    return ModelSignature(Schema(columns), None, maps)


def _example(model: "Model") -> pd.DataFrame:
    if model.calibration is None and model.networks.synthesises:
        return pd.DataFrame({SEED: [0.0, 1.0]})
    return pd.DataFrame({name: [f"{name}.nii.gz"] for name in model.preprocessing.channels})
