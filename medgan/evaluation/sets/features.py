"""What volumes are compared by: extractors by name, and a cache of what they found."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from medgan.core.errors import ModelError
from medgan.core.files import write_atomic
from medgan.evaluation.sets.encoders import random_ensemble, train_encoder
from medgan.evaluation.sets.pretrained import MedicalNet, Planes
from medgan.networks.metrics import band_features


@dataclass(frozen=True)
class Extractor:
    """From volumes to features.

    Attributes:
        name: in `EXTRACTORS`.
        digest: of its weights; the same digest, the same features.
        network: (B, 1, X, Y, Z) to (B, F).
    """

    name: str
    digest: str
    network: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, volumes: Float[Tensor, "N 1 X Y Z"], batch: int = 8) -> Float[Tensor, "N F"]:
        """Features of volumes with intensities in [-1, 1], on the CPU."""
        return torch.cat([self.network(part).float().cpu() for part in volumes.split(batch)])


class Material(NamedTuple):
    """What an extractor may be made from.

    Attributes:
        real: real volumes (N, 1, X, Y, Z) in [-1, 1], on the device to use.
        weights: file of a pretrained network; None where there is none.
        seed: of random weights and of training.
    """

    real: Tensor
    weights: Path | None
    seed: int


def _bands(material: Material) -> Extractor:
    return Extractor("bands", "bands 1", band_features)


def _random(material: Material) -> Extractor:
    return _of_module("random", random_ensemble(material.seed, material.real.device))


def _selfsupervised(material: Material) -> Extractor:
    return _of_module("selfsupervised", train_encoder(material.real, material.seed))


def _medicalnet(material: Material) -> Extractor:
    net = MedicalNet(_file(material, "medicalnet"))
    return Extractor("medicalnet", net.digest, net.to(material.real.device))


def _planes(material: Material) -> Extractor:
    net = Planes(_file(material, "planes"))
    return Extractor("planes", net.digest, net.to(material.real.device))


EXTRACTORS: dict[str, Callable[[Material], Extractor]] = {
    "bands": _bands,
    "random": _random,
    "selfsupervised": _selfsupervised,
    "medicalnet": _medicalnet,
    "planes": _planes,
}


def cached_features(
    extractor: Extractor,
    volumes: Float[Tensor, "N 1 X Y Z"],
    keys: Sequence[str],
    preprocessing: str,
    folder: Path,
) -> Float[Tensor, "N F"]:
    """Features of a set, computed once and kept on disk.

    Args:
        extractor: its digest is part of the key.
        volumes: on the grid that the preprocessing describes.
        keys: hash of each volume's file or voxels, in order.
        preprocessing: in words that change with it; so does the key.
        folder: of the cache; files in it may be read by the owner only.
    """
    text = json.dumps([extractor.name, extractor.digest, preprocessing, list(keys)])
    path = folder / f"features-{hashlib.sha256(text.encode()).hexdigest()}.safetensors"
    with suppress(FileNotFoundError, SafetensorError, KeyError):
        return load(path.read_bytes())["features"]
    features = extractor(volumes)
    write_atomic(path, save({"features": features.contiguous()}), private=True)
    return features


def voxel_hashes(volumes: Float[Tensor, "N 1 X Y Z"]) -> list[str]:
    """A hash of each volume's voxels, for volumes that come from no file."""
    return [
        hashlib.sha256(v.float().cpu().contiguous().numpy().tobytes()).hexdigest() for v in volumes
    ]


def _of_module(name: str, module: nn.Module) -> Extractor:
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return Extractor(name, digest.hexdigest(), module)


def _file(material: Material, name: str) -> Path:
    if material.weights is None:
        raise ModelError(
            "E_MODEL", "evaluate.weights", f"{name} needs a file of weights",
            "name the file, or choose bands, random or selfsupervised as evaluate.features",
        )  # fmt: skip
    return material.weights
