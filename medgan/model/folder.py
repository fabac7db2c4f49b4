"""The model folder: tensors, JSON and a card, vouched for by hashes; nothing in it is code."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from medgan.anomaly.calibration import Calibration
from medgan.anomaly.context import Densities
from medgan.anomaly.density import FeatureDensity
from medgan.core.config import ModelConfig, Preprocessing
from medgan.core.conversion import Conversion
from medgan.core.errors import ModelError
from medgan.core.files import write_together
from medgan.core.json_files import read_json_object
from medgan.core.version import __version__
from medgan.data.codebook import channels
from medgan.data.conditions import width
from medgan.data.template import packed, unpacked
from medgan.model.calibration_files import calibration_from_files, calibration_to_files
from medgan.model.card import card_text
from medgan.model.fresh_networks import (
    fresh_localiser,
    fresh_restorer,
    restoring_networks,
    synthesis_networks,
    translating_networks,
)
from medgan.model.hull import Hull
from medgan.networks.gan import Networks
from medgan.networks.mismatch import mismatch

log = logging.getLogger(__name__)
FORMAT = 2
_SHORT = 64
"""Numbers of a tensor that is never halved."""
WEIGHTS, MAPS = "model.safetensors", "calibration.safetensors"
DENSITIES = "densities.safetensors"
TEMPLATE, HULL = "template.safetensors", "hull.safetensors"
CONFIG, CALIBRATION, CARD = "config.json", "calibration.json", "card.md"


@dataclass(frozen=True)
class Stored:
    """All of a model that a folder holds; what each part is, `Model` says."""

    networks: Networks
    preprocessing: Preprocessing
    sizes: ModelConfig
    facts: dict[str, Any]
    calibration: Calibration | None
    label_offset: float
    densities: Densities
    hull: Hull | None = None
    digest: str = ""


def write_model(folder: Path, stored: Stored, half: bool = False) -> None:
    """Writes a model folder; `config.json` comes last and holds the hashes of the rest.

    Args:
        folder: made if missing; files of an older model in it are replaced.
        stored: what to write.
        half: weights and maps in half precision; whoever reads them gets single precision back.

    Raises:
        EnvironmentFailure: E_DISK; an older model stays as it was.
    """
    weights = {
        f"{name}.{key}": value.cpu().contiguous()
        for name, module in stored.networks.modules().items()
        for key, value in module.state_dict().items()
    }
    files = {WEIGHTS: _tensors(weights, half)}
    if (template := stored.preprocessing.template) is not None:
        arrays = {name: torch.from_numpy(a) for name, a in packed(template).items()}
        files[TEMPLATE] = save_tensors(arrays)
    if stored.densities:
        files[DENSITIES] = _tensors(_packed(stored.densities), half)
    if stored.hull is not None:
        files[HULL] = save_tensors({k: torch.from_numpy(a) for k, a in vars(stored.hull).items()})
    if stored.calibration is not None:
        values, maps = calibration_to_files(stored.calibration)
        files |= {CALIBRATION: _json(values), MAPS: _tensors(maps, half)}
    localiser, restorer = stored.networks.localiser, stored.networks.restorer
    translator = stored.networks.translator
    config = {
        "format": FORMAT,
        "medgan": __version__,
        "preprocessing": stored.preprocessing.model_dump(),
        "model": stored.sizes.model_dump(),
        "discriminator": stored.networks.discriminator is not None,
        "generator": stored.networks.synthesises,
        "restorer": None if restorer is None else list(restorer.inputs),
        "localiser": None if localiser is None else list(localiser.inputs),
        "mirrored": localiser is not None and localiser.mirrored,
        "translator": None if translator is None else asdict(translator.conversion),
        "label_offset": stored.label_offset,
        "facts": stored.facts,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    files[CARD] = card_text(config, stored.calibration).encode()
    files[CONFIG] = _json(config)
    write_together({folder / name: data for name, data in files.items()})
    for name in {DENSITIES, CALIBRATION, MAPS, TEMPLATE, HULL} - files.keys():
        (folder / name).unlink(missing_ok=True)  # an older model's, which nobody means to hand on


def read_model(folder: Path) -> Stored:
    """Reads a model folder and checks every file against its hash.

    Raises:
        ModelError: E_MODEL when it is none, is damaged or does not fit itself.
    """
    config = _read_config(folder)
    try:
        files = {name: _read(folder, name, sha) for name, sha in config["sha256"].items()}
        preprocessing = _preprocessing(config["preprocessing"], files.get(TEMPLATE))
        sizes = ModelConfig.model_validate(config["model"])
        calibration = None
        if CALIBRATION in files:
            calibration = calibration_from_files(
                json.loads(files[CALIBRATION]), load_tensors(files[MAPS])
            )
        inputs = None if config["localiser"] is None else tuple(config["localiser"])
        judged = bool(config["discriminator"])
        weights = load_tensors(files[WEIGHTS])
        restored = config.get("restorer", False)  # of old models: whether, not from what
        if conversion := config.get("translator"):
            conversion = Conversion.read(conversion)
            networks = translating_networks(preprocessing, sizes, conversion)
        elif config.get("generator", not restored):
            labels, condition = channels(preprocessing.labels), width(preprocessing.conditions)
            networks = synthesis_networks(preprocessing, sizes, labels, condition)
        else:
            networks = restoring_networks(preprocessing, sizes)
        seen = ("density",) if restored is True else tuple(restored or ())
        networks.restorer = fresh_restorer(preprocessing, sizes, seen) if seen else None
        if not judged:
            networks.discriminator = None
        if inputs is not None:
            networks.localiser = fresh_localiser(preprocessing, sizes, inputs)
            networks.localiser.mirrored = bool(config.get("mirrored", False))
        _fill(folder, networks, weights)
        densities = _densities(load_tensors(files[DENSITIES])) if DENSITIES in files else {}
        hull = None
        if HULL in files:
            hull = Hull(**{k: t.numpy() for k, t in load_tensors(files[HULL]).items()})
        facts, label_offset = dict(config["facts"]), float(config["label_offset"])
        digest = str(config["sha256"][WEIGHTS])
    except (KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise _unusable(folder, f"does not fit itself ({type(error).__name__})") from None
    return Stored(
        networks, preprocessing, sizes, facts, calibration, label_offset, densities, hull,
        digest,
    )  # fmt: skip


def _preprocessing(values: dict[str, Any], stored: bytes | None) -> Preprocessing:
    """The preprocessing with its template; ValueError where the two do not belong together."""
    template = None
    if stored is not None:
        template = unpacked({name: t.numpy() for name, t in load_tensors(stored).items()})
    found = template.digest if template else None
    if found != values.get("template"):
        raise ValueError("another template")
    return Preprocessing.model_validate({**values, "template": template})


def _fill(folder: Path, networks: Networks, weights: dict[str, Tensor]) -> None:
    """Puts stored weights into the networks, also of models that did not say where a U-Net was.

    Raises:
        ModelError: E_MODEL with the weights that do not fit.
    """
    for name, module in networks.modules().items():
        prefix = f"{name}."
        stored = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        if name in ("localiser", "restorer"):
            stored = {f"unet.{k.removeprefix('unet.')}": v for k, v in stored.items()}
        if unlike := mismatch(module.state_dict(), stored):
            raise _unusable(folder, f"its {name} does not fit its config.json: {unlike}")
        module.load_state_dict(stored)


def _packed(densities: Densities) -> dict[str, Tensor]:
    packed = {}
    for name, density in densities.items():
        mean, whitening = density.packed()
        packed |= {f"{name}.mean": mean.contiguous(), f"{name}.whitening": whitening.contiguous()}
    return packed


def _densities(stored: dict[str, Tensor]) -> dict[str, FeatureDensity]:
    names = [key.removesuffix(".mean") for key in stored if key.endswith(".mean")]
    return {
        name: FeatureDensity.unpacked(
            stored[f"{name}.mean"].float(), stored[f"{name}.whitening"].float()
        )
        for name in names
    }


def _tensors(values: dict[str, Tensor], half: bool) -> bytes:
    """Safetensors; in half precision but for the short ones, on which whole maps depend."""
    return save_tensors(
        {k: (v.half() if half and v.numel() > _SHORT else v).cpu() for k, v in values.items()}
    )


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        raise _unusable(folder, "no config.json in it")
    try:
        config = read_json_object(folder / CONFIG)
        known = config["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        raise _unusable(folder, "config.json is damaged") from None
    if not known:
        raise _unusable(
            folder, f"format {config['format']}, this medgan reads {FORMAT}",
            f"use the version that made it ({config.get('medgan', 'unknown')}), or train it again",
        )  # fmt: skip
    return config


def _read(folder: Path, name: str, sha256: str) -> bytes:
    if Path(name).name != name:
        raise _unusable(folder, "names a file outside itself")
    try:
        data = (folder / name).read_bytes()
    except OSError:
        raise _unusable(folder, f"{name} is missing") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _unusable(folder, f"{name} differs from its hash")
    return data


def holds_discriminator(folder: Path) -> bool:
    """Whether a model that was trained, and not one to hand on, lies in a folder."""
    if not (folder / CONFIG).is_file():
        return False
    return bool(_read_config(folder)["discriminator"])


def _unusable(
    folder: Path, what: str, remedy: str = "give the folder `model` in what training wrote"
) -> ModelError:
    return ModelError("E_MODEL", str(folder), what, remedy)


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode()
