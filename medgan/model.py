"""The model: what is shipped, loaded, and behind every verb."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from medgan.card import card_text
from medgan.config import ModelConfig, Preprocessing
from medgan.data.checks import check_image, check_volume
from medgan.data.codes import channels
from medgan.data.labels import SMALLEST_COMPONENT, harden, largest_components
from medgan.data.transforms import Preparation
from medgan.errors import ModelError
from medgan.files import write_together
from medgan.models.networks import Networks
from medgan.scoring.calibration import Calibration, MapStatistics, calibrate
from medgan.scoring.maps import make_maps
from medgan.version import __version__
from medgan.volume import Volume

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

FORMAT = 1
WEIGHTS, CONFIG, CALIBRATION, CARD = (
    *("model.safetensors", "config.json"),
    *("calibration.json", "card.md"),
)
MAPS = "calibration.safetensors"
TILE = 128
"""Edge of the cubes in which the full resolution of large volumes is generated."""
MRI_UNITS = 1000
"""Synthetic MRI is written from 0 to this, as MRI has no unit of its own."""


@dataclass(frozen=True)
class Synthetic:
    """A synthetic scan.

    Attributes:
        image: int16, HU for CT, 0 to 1000 for MRI, on the model's grid.
        label: label map, or None where the model learned none.
        seed, number: what it was drawn from.
    """

    image: Volume
    label: Volume | None
    seed: int
    number: int


@dataclass(frozen=True)
class ScanScore:
    """What a model says of one scan.

    Attributes:
        score: mean of the parts; 0 is an average healthy scan, 1 a healthy standard deviation
            more.
        p_value: share of healthy scans, this one counted among them, that score at least as high.
        parts: the score of each map, in healthy standard deviations.
        score_map: healthy standard deviations a voxel, in the scan's own grid; 0 outside the
            model's field of view.
        recon: the reconstruction, in the scan's own grid and intensities.
    """

    score: float
    p_value: float
    parts: dict[str, float]
    score_map: Volume
    recon: Volume


@dataclass
class Model:
    """Generator, encoder and discriminator with all they need to be used.

    Attributes:
        networks: in evaluation, on `device`.
        preprocessing: what a scan goes through first.
        sizes: of the networks.
        facts: where the model comes from: data digest, volumes seen, versions. No paths.
        calibration: of the scores; None until `calibrate`.
        label_offset: with which generated label channels become label maps.
    """

    networks: Networks
    preprocessing: Preprocessing
    sizes: ModelConfig
    facts: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    label_offset: float = 0.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self.networks.requires_grad(False)
        self.networks.to(self.device)

    @cached_property
    def _preparation(self) -> Preparation:
        return Preparation(self.preprocessing)

    def generate(
        self,
        count: int,
        seed: int = 0,
        first: int = 0,
        smallest_component: float = SMALLEST_COMPONENT,
    ) -> list[Synthetic]:
        """Synthetic scans, with label maps where the model learned labels.

        Scan number i is a function of the seed and i alone: it does not depend on `count`, on
        `first` or on what was generated before.

        Args:
            count: how many.
            seed: of the latents.
            first: number of the first one.
            smallest_component: parts of a label smaller than this share of its largest one are
                specks and are filled with what surrounds them; 0 keeps them.
        """
        return list(self.iter_generate(count, seed, first, smallest_component))

    @torch.inference_mode()
    def iter_generate(
        self,
        count: int,
        seed: int = 0,
        first: int = 0,
        smallest_component: float = SMALLEST_COMPONENT,
    ) -> Iterator[Synthetic]:
        """As `generate`, one by one, for more scans than fit into memory."""
        affine = self._synthetic_affine()
        for number in range(first, first + count):
            state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
            random = torch.Generator().manual_seed(state)
            latent = torch.randn(1, self.sizes.latent, generator=random).to(self.device)
            drawn = self.networks.generator(latent, random, tile=TILE)[0].float().cpu()
            label = None
            if self.preprocessing.labels:
                labels = self.preprocessing.labels
                values = harden(drawn[1:], labels, self.label_offset).numpy()
                values = largest_components(values, labels, smallest_component)
                label = Volume(values.astype(np.uint16), affine)
            image = np.round(self._to_units(drawn[0].clamp(-1, 1).numpy()))
            yield Synthetic(Volume(image.astype(np.int16), affine), label, seed, number)

    def encode(self, scan: str | Path | Volume) -> np.ndarray:
        """The latent (L,) from which the generator rebuilds a scan.

        Args:
            scan: a NIfTI file, or a volume in the scanner's intensities.
        """
        return self._encode(self._prepare(scan)).numpy()

    def reconstruct(self, scan: str | Path | Volume) -> Volume:
        """The scan rebuilt from its latent, in its own grid and intensities."""
        prepared = self._prepare(scan)
        return self._to_scan(self._reconstruct(prepared), prepared, scan)

    @torch.inference_mode()
    def score(self, scan: str | Path | Volume) -> ScanScore:
        """How strange a scan is among healthy ones, and where.

        Args:
            scan: a NIfTI file, or a volume in the scanner's intensities.

        Raises:
            ModelError: E_UNCALIBRATED.
            DataError: when the scan is one that `medgan check` refuses.
        """
        if self.calibration is None:
            raise ModelError(
                "E_UNCALIBRATED", "the model", "has seen no calibration scans",
                "run medgan calibrate MODEL HEALTHY",
            )  # fmt: skip
        prepared = self._prepare(scan)
        recon = self._reconstruct(prepared)
        scores, score_map, parts = self.calibration.score(self._maps(prepared, recon))
        score = float(scores[0])
        native = self._preparation.back(score_map[0, 0].numpy(), prepared)
        return ScanScore(
            score,
            self.calibration.p_value(score),
            {name: float(value[0]) for name, value in parts.items()},
            Volume(native, _affine_of(scan, prepared)),
            self._to_scan(recon, prepared, scan),
        )

    def calibrate(
        self,
        scans: Sequence[str | Path | Volume],
        top: float = 0.01,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Learns what healthy scans score; sets `calibration`.

        Args:
            scans: healthy scans that were not trained on, at least five.
            top: share of the highest voxels that make a map's score.
            progress: told how many of how many scans are done.

        Raises:
            DataError: E_CALIBRATION with too few scans.
        """
        collected: dict[str, list[Tensor]] = {}
        with torch.inference_mode():
            for number, scan in enumerate(scans):
                prepared = self._prepare(scan)
                for name, score_map in self._maps(prepared, self._reconstruct(prepared)).items():
                    collected.setdefault(name, []).append(score_map)
                progress(number + 1, len(scans))
            maps = {name: torch.cat(parts) for name, parts in collected.items()}
            self.calibration = calibrate(maps or {"none": torch.zeros(0, 1, 1, 1, 1)}, top)

    def save(self, folder: Path) -> None:
        """Writes the model folder: tensors, JSON and a card, hashes inside.

        Args:
            folder: made if missing; files of an older model in it are replaced.
        """
        weights = {
            f"{name}.{key}": value.cpu().contiguous()
            for name, module in self.networks.modules().items()
            for key, value in module.state_dict().items()
        }
        files = {WEIGHTS: save_tensors(weights)}
        if self.calibration is not None:
            values, maps = _calibration_to_files(self.calibration)
            files |= {CALIBRATION: _json(values), MAPS: save_tensors(maps)}
        config = {
            "format": FORMAT,
            "medgan": __version__,
            "preprocessing": self.preprocessing.model_dump(),
            "model": self.sizes.model_dump(),
            "label_offset": self.label_offset,
            "facts": self.facts,
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        }
        files[CARD] = card_text(config, self.calibration).encode()
        files[CONFIG] = _json(config)
        write_together({folder / name: data for name, data in files.items()})

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Model":
        """Reads a model folder; every file is checked against its hash, nothing is executed.

        Args:
            folder: with config.json and the files it names.
            device: where the networks go.

        Raises:
            ModelError: E_MODEL.
        """
        config = _read_config(folder)
        try:
            files = {name: _read(folder, name, sha) for name, sha in config["sha256"].items()}
            facts = dict(config["facts"])
            label_offset = float(config["label_offset"])
            preprocessing = Preprocessing.model_validate(config["preprocessing"])
            sizes = ModelConfig.model_validate(config["model"])
            networks = Networks.build(
                preprocessing.shape, channels(preprocessing.labels), **sizes.model_dump()
            )
            weights = load_tensors(files[WEIGHTS])
            for name, module in networks.modules().items():
                prefix = f"{name}."
                module.load_state_dict(
                    {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
                )
            calibration = None
            if CALIBRATION in files:
                calibration = _calibration_from_files(
                    json.loads(files[CALIBRATION]), load_tensors(files[MAPS])
                )
        except (KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise _unusable(folder, f"does not fit itself ({type(error).__name__})") from None
        return cls(networks, preprocessing, sizes, facts, calibration, label_offset,
                   torch.device(device))  # fmt: skip

    def _prepare(self, scan: str | Path | Volume) -> "MetaTensor":
        """Checks a scan as the index does, then brings it to the model's grid."""
        if isinstance(scan, Volume):
            check_volume(scan, "the volume")
            return self._preparation(scan)
        check_image(Path(scan), "the scan")
        return self._preparation(Path(scan))

    def _batch(self, prepared: "MetaTensor") -> Tensor:
        return prepared.as_tensor()[None].to(self.device, memory_format=torch.channels_last_3d)

    def _encode(self, prepared: "MetaTensor") -> Tensor:
        with torch.inference_mode():
            return self.networks.encoder(self._batch(prepared))[0].float().cpu()

    def _reconstruct(self, prepared: "MetaTensor") -> Tensor:
        """(1, 1, X, Y, Z) on the model's grid, on the CPU."""
        with torch.inference_mode():
            latent = self._encode(prepared)[None].to(self.device)
            return self.networks.generator(latent, tile=TILE)[:, :1].float().cpu()

    def _maps(self, prepared: "MetaTensor", recon: Tensor) -> dict[str, Tensor]:
        volume = self._batch(prepared)
        maps = make_maps(volume, recon.to(self.device), self.networks.discriminator.features)
        return {name: score_map.float().cpu() for name, score_map in maps.items()}

    def _to_scan(self, recon: Tensor, prepared: "MetaTensor", scan: str | Path | Volume) -> Volume:
        low, high = prepared.meta["intensity_range"]
        native = self._preparation.back(recon[0, 0].numpy(), prepared, outside=-1.0)
        return Volume(low + (native + 1) / 2 * (high - low), _affine_of(scan, prepared))

    def _to_units(self, data: np.ndarray) -> np.ndarray:
        low, high = self.preprocessing.window
        if self.preprocessing.intensity == "mri":
            low, high = 0.0, float(MRI_UNITS)
        return low + (data + 1) / 2 * (high - low)

    def _synthetic_affine(self) -> np.ndarray:
        """RAS+ with the model's spacing, the world's origin in the middle of the grid."""
        spacing = np.array(self.preprocessing.spacing)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -spacing * (np.array(self.preprocessing.shape) - 1) / 2
        return affine


def _affine_of(scan: str | Path | Volume, prepared: "MetaTensor") -> np.ndarray:
    if isinstance(scan, Volume):
        return scan.affine
    return np.asarray(prepared.meta["original_affine"], dtype=np.float64)


def _calibration_to_files(
    calibration: Calibration,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    values = {
        "top": calibration.top,
        "scans": len(calibration.scores),
        "centres": calibration.centres,
        "scales": calibration.scales,
        "scores": list(calibration.scores),
    }
    maps = {}
    for name, statistics in calibration.statistics.items():
        maps[f"{name}.mean"] = statistics.mean.contiguous()
        maps[f"{name}.spread"] = statistics.spread.contiguous()
    return values, maps


def _calibration_from_files(values: dict[str, Any], maps: dict[str, Tensor]) -> Calibration:
    statistics = {
        name: MapStatistics(maps[f"{name}.mean"], maps[f"{name}.spread"])
        for name in values["centres"]
    }
    return Calibration(
        statistics, values["centres"], values["scales"], tuple(values["scores"]), values["top"]
    )


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        raise _unusable(folder, "no config.json in it")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        known = config["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        raise _unusable(folder, "config.json is damaged") from None
    if not known:
        raise _unusable(folder, f"format {config['format']}, this medgan reads {FORMAT}")
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


def _unusable(folder: Path, what: str) -> ModelError:
    return ModelError("E_MODEL", str(folder), what, "give the folder that training wrote")


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode()
