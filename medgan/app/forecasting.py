"""What the training of a pipeline would take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medgan.app.pipeline_files import read_pipeline
from medgan.app.run import Run
from medgan.app.steps.scans import read_manifest
from medgan.core.config import Preprocessing, build, merge
from medgan.core.errors import ConfigError, DataError
from medgan.data.plan import plan

if TYPE_CHECKING:
    from medgan.training.forecast import Forecast


def forecast_pipeline(
    name: str, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> "Forecast":
    """What the training of a pipeline would take; writes nothing.

    Args:
        name: path of a YAML file, or the name of one in `pipelines/`.
        overrides: settings that win; without scans, `data.shape` says what to expect.
        values: nested settings, which win over the file.

    Raises:
        ConfigError: E_NO_DATA when there is neither.
        DataError: E_SPLIT when no scan would be learned from.
        ModelError: E_START when the model to start from does not fit.
    """
    from medgan.training.forecast import forecast
    from medgan.training.start import require_fit, start_plan

    config = build(merge(read_pipeline(name)[1], values or {}), overrides)
    data, start = config.data, Run(config).start()
    if data.source:
        with TemporaryDirectory() as folder:  # for what DICOM becomes
            cases = read_manifest(data, Path(folder))[0].split("train")
            if not cases:
                raise DataError(
                    "E_SPLIT", "the data set", "no training scans", "add healthy scans or set "
                    "data.fractions",
                )  # fmt: skip
            task = config.train.task
            preprocessing = start_plan(config, cases, start, task) if start else plan(data, cases)
        return forecast(config, preprocessing)
    if start is not None:
        require_fit(start.preprocessing, config.model, config.train.task, start)
        return forecast(config, start.preprocessing)
    if data.shape == "auto":
        raise ConfigError(
            "E_NO_DATA", "data.source", "no scans and no grid named", "give --data or data.shape"
        )
    spacing = (1.0, 1.0, 1.0) if data.spacing == "auto" else data.spacing
    labels = () if data.labels == "auto" else data.labels
    return forecast(config, Preprocessing(spacing=spacing, shape=data.shape, labels=labels))
