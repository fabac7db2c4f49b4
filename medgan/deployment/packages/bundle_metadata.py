"""The metadata of a MONAI bundle, after MONAI's schema of July 2024."""

from typing import Any

from medgan.deployment.packages.distributions import direct_versions, version_of
from medgan.deployment.packages.networks import Port, networks_of
from medgan.deployment.packages.packaged import Packaged
from medgan.deployment.packages.sealing import USE, about_licence
from medgan.model.card import described
from medgan.model.model import Model

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
_TASKS = {"score": "Anomaly scores and maps", "translate": "Image-to-image translation"}


def metadata(packaged: Packaged) -> dict[str, Any]:
    """What `configs/metadata.json` holds."""
    model, version = packaged.model, str(packaged.version.get("version", "1"))
    name = packaged.version.get("name", "medgan")
    summary, limits = described(packaged.config)
    conditions = [one.name for one in model.preprocessing.conditions]
    return {
        "schema": SCHEMA,
        "version": f"{version}.0.0",
        "changelog": {f"{version}.0.0": f"{name}, weights {model.digest[:12]}"},
        "monai_version": version_of("monai"),
        "pytorch_version": version_of("torch").partition("+")[0],
        "numpy_version": version_of("numpy"),
        "required_packages_version": direct_versions(),
        "name": name,
        "task": f"{_task(model)}. {USE}",
        "description": f"{summary} {' '.join(limits)}",
        "authors": "whoever trained the model, with medgan",
        "copyright": about_licence(model.facts),
        "data_source": f"data digest {model.facts.get('data_digest', 'unknown')}",
        "data_type": "nibabel",
        "intended_use": USE,
        "references": [],
        "conditions": conditions,
        "network_data_format": _whole(model),
        **{f"{one.name}_data_format": _io(one.inputs, one.outputs) for one in networks_of(model)},
    }


def _task(model: Model) -> str:
    if model.calibration is not None:
        return _TASKS["score"]
    return _TASKS["translate"] if model.source else "Synthetic scans"


def _whole(model: Model) -> dict[str, Any]:
    """What the bundle takes and gives on the model's grid: it brings scans there, and maps back."""
    grid = model.preprocessing
    given = model.source or grid.channels
    scan = Port((len(given), *grid.shape), (-1.0, 1.0), ", ".join(given))
    ct = grid.intensity_of(given[0]) == "ct"
    spaced: dict[str, Any] = {
        "modality": "CT" if ct else "MR",
        "spacing": list(grid.spacing),
        "orientation": "RAS",
    }
    image = _tensor(scan, "hounsfield" if ct else "magnitude") | spaced
    if model.calibration is not None:
        found = Port((1, *grid.shape), None, "healthy standard deviations")
        return {"inputs": {"image": image}, "outputs": {"pred": _tensor(found, "map") | spaced}}
    if model.networks.translator is not None:
        target = model.networks.translator.conversion.target
        made = Port((len(target) or 1, *grid.shape), (-1.0, 1.0), ", ".join(target))
        return {"inputs": {"image": image}, "outputs": {"pred": _tensor(made, "image") | spaced}}
    (generator,) = (one for one in networks_of(model) if one.name == "generator")
    return _io(generator.inputs, generator.outputs)


def _io(inputs: dict[str, Port], outputs: dict[str, Port]) -> dict[str, Any]:
    return {
        kind: {
            name: _tensor(port, "magnitude" if len(port.shape) > 1 else "")
            for name, port in ports.items()
        }
        for kind, ports in (("inputs", inputs), ("outputs", outputs))
    }


def _tensor(port: Port, kind: str) -> dict[str, Any]:
    """A tensor as MONAI describes it; a value range without bounds is empty."""
    channels, *size = port.shape
    names = [name.partition(";")[0].strip() for name in port.meaning.split(",")]
    listed = names if len(names) == channels else [port.meaning]
    return {
        "type": "image" if size else "tuples",
        "format": kind or "latent",
        "num_channels": channels,
        "spatial_shape": size,
        "dtype": "float32",
        "value_range": [] if port.range is None else list(port.range),
        "is_patch_data": False,
        "channel_def": {str(number): name for number, name in enumerate(listed)},
    }
