"""Feature extractors by name, and a cache of their features."""

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
    """Volumes to features.

    Attributes:
        name: in `EXTRACTORS`.
        digest: of its weights; equal digests give equal features.
        network: (B, 1, X, Y, Z) to (B, F).
    """

    name: str
    digest: str
    network: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, volumes: Float[Tensor, "N 1 X Y Z"], batch: int = 8) -> Float[Tensor, "N F"]:
        """Features of volumes with intensities in [-1, 1], on the CPU."""
        return torch.cat([self.network(part).float().cpu() for part in volumes.split(batch)])


class ExtractorSource(NamedTuple):
    """What an extractor is made from.

    Attributes:
        real: real volumes (N, 1, X, Y, Z) in [-1, 1], on the device to use.
        weights: file of a pretrained network; None where there is none.
        seed: of random weights and of training.
    """

    real: Tensor
    weights: Path | None
    seed: int


def _bands(source: ExtractorSource) -> Extractor:
    return Extractor("bands", "bands 1", band_features)


def _random(source: ExtractorSource) -> Extractor:
    return _of_module("random", random_ensemble(source.seed, source.real.device))


def _selfsupervised(source: ExtractorSource) -> Extractor:
    return _of_module("selfsupervised", train_encoder(source.real, source.seed))


def _medicalnet(source: ExtractorSource) -> Extractor:
    net = MedicalNet(_file(source, "medicalnet"))
    return Extractor("medicalnet", net.digest, net.to(source.real.device))


def _planes(source: ExtractorSource) -> Extractor:
    net = Planes(_file(source, "planes"))
    return Extractor("planes", net.digest, net.to(source.real.device))


EXTRACTORS: dict[str, Callable[[ExtractorSource], Extractor]] = {
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
    """Features of a set, computed once and cached on disk.

    Args:
        extractor: its digest is part of the key.
        volumes: on the grid that the preprocessing describes.
        keys: hash of the file or the voxels of each volume, in order.
        preprocessing: text that identifies it; part of the key.
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
    """A hash of the voxels of each volume, for volumes without a file."""
    return [
        hashlib.sha256(v.float().cpu().contiguous().numpy().tobytes()).hexdigest() for v in volumes
    ]


def _of_module(name: str, module: nn.Module) -> Extractor:
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return Extractor(name, digest.hexdigest(), module)


def _file(source: ExtractorSource, name: str) -> Path:
    if source.weights is None:
        raise ModelError(
            "E_MODEL", "evaluate.weights", f"{name} needs a file of weights",
            "name the file, or choose bands, random or selfsupervised as evaluate.features",
        )  # fmt: skip
    return source.weights
