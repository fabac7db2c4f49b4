"""Generated sets: synthetic scans of models, and of baselines trained here."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medgan.core.config import Config, Preprocessing
from medgan.core.errors import DataError, ModelError, TrainingDiverged, require_one_channel
from medgan.core.files import write_together
from medgan.core.json_files import read_json
from medgan.core.progress import counting
from medgan.data.batches import PreparedVolumes
from medgan.data.labels import decode_labels, largest_components
from medgan.data.manifest import Manifest
from medgan.data.prepared import stored
from medgan.data.reading import Refuse, log_refusals
from medgan.data.template import aligned_plan
from medgan.model.folder import WEIGHTS
from medgan.model.model import Model
from medgan.networks.channels import split_channels
from medgan.networks.device import choose_device
from medgan.studies.baselines.alpha_wgan import AlphaWgan
from medgan.studies.baselines.dcgan import Dcgan
from medgan.studies.baselines.ha_gan import HaGan
from medgan.studies.baselines.training import Baseline, train_baseline
from medgan.studies.baselines.vae import Vae

log = logging.getLogger(__name__)
SAMPLES, RECORD = "samples.safetensors", "baseline.json"
SAMPLE_COUNT = 500
"""Volumes that a baseline leaves."""
BASELINES: dict[str, type[AlphaWgan] | type[Dcgan] | type[HaGan] | type[Vae]] = {
    "alpha_wgan": AlphaWgan,
    "dcgan": Dcgan,
    "ha_gan": HaGan,
    "vae": Vae,
}


@dataclass(frozen=True)
class GeneratedSet:
    """Synthetic scans of one generator, and facts about its training.

    Attributes:
        name: of its row.
        images: (N, 1, X, Y, Z) in [-1, 1], as `stored` leaves them; N is 0 where nothing is drawn.
        label_maps: (N, X, Y, Z) label values; None for a generator without labels.
        preprocessing: the grid and intensities.
        data_digest: of the manifest it was trained on.
        effort: length of its training, for the record.
        model: that drew the samples; None for a baseline, which leaves samples alone.
        training_scans: number of its training scans; None if unknown.
        training_digest: of the training scans alone; empty if unknown.
    """

    name: str
    images: Tensor
    label_maps: Tensor | None
    preprocessing: Preprocessing
    data_digest: str
    effort: dict[str, Any]
    model: Model | None = None
    training_scans: int | None = None
    training_digest: str = ""

    @property
    def draws(self) -> bool:
        """Whether there can be synthetic scans at all."""
        return self.model is None or self.model.networks.synthesises


def make_baseline(
    config: Config,
    manifest: Manifest,
    out: Path,
    facts: dict[str, str],
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Trains a baseline on the training split and writes samples and a record.

    Args:
        config: data, train (minutes, volumes, seed, device) and baseline sections.
        manifest: with splits.
        out: receives cache, samples.safetensors and baseline.json.
        facts: versions, for the record.
        refuse: receives scans that cannot be prepared; they are left out.

    Returns:
        The content of baseline.json without preprocessing.

    Raises:
        DataError: E_SPLIT with fewer than two training scans.
        TrainingDiverged: E_NAN.
    """
    cases = manifest.split("train")
    _require_two(len(cases))
    preprocessing = aligned_plan(config.data, cases, out / "cache")
    prepared = PreparedVolumes(cases, preprocessing, out / "cache")
    with counting("preparing scans") as tick:
        refuse(prepared.warm(tick))
    _require_two(len(prepared))
    volumes = torch.stack([prepared[number][0] for number in range(len(prepared))])
    seed, device = config.train.seed, choose_device(config.train.device)
    baseline: Baseline = BASELINES[config.baseline.name](preprocessing.shape, seed, device)
    try:
        with counting("training") as tick:
            effort = train_baseline(
                baseline, volumes, config.train.minutes, config.train.volumes, seed, tick
            )
    except FloatingPointError:
        raise TrainingDiverged(
            "E_NAN", config.baseline.name, "weights or losses are not finite",
            "train with another train.seed or for fewer minutes",
        ) from None  # fmt: skip
    steps = effort.volumes_seen // baseline.batch
    parameters = sum(p.numel() for n in baseline.networks() for p in n.parameters())
    training: dict[str, Any] = {
        "name": config.baseline.name,
        "volumes_seen": effort.volumes_seen,
        "seconds": round(effort.seconds, 1),
        "batch": baseline.batch,
        "ms_per_step": round(1000 * effort.seconds / max(steps, 1), 1),
        "parameters": parameters,
        "seed": seed,
        "training_scans": len(prepared),
        "data_digest": manifest.digest,
        "training_digest": manifest.training_digest,
        **facts,
    }
    record = training | {"preprocessing": preprocessing.model_dump(mode="json")}
    log.info("generating %d volumes", SAMPLE_COUNT)
    images = baseline.sample(SAMPLE_COUNT, torch.Generator().manual_seed(seed + 1))
    samples = {"images": images.half()}
    files = {out / SAMPLES: save(samples), out / RECORD: json.dumps(record, indent=1)}
    write_together(files)
    return training | {"folder": str(out)}


def _require_two(scans: int) -> None:
    if scans < 2:
        raise DataError(
            "E_SPLIT", f"{scans} training scans", "at least 2 are needed",
            "add healthy scans or set data.fractions",
        )  # fmt: skip


def read_generated_set(
    uri: str, load_model: Callable[[str], Model], count: int, seed: int = 0
) -> GeneratedSet:
    """Generates scans with a model, or reads the samples of a baseline.

    Args:
        uri: model folder, models:/name@alias, runs:/id/model, or a folder with baseline.json.
        load_model: loads a model by its URI.
        count: number of volumes; a baseline may have fewer.
        seed: of the latents of a model.

    Raises:
        ModelError: E_MODEL.
    """
    if is_baseline(uri):
        return _read_baseline(Path(uri), count)
    model = load_model(uri)
    require_one_channel("a generated set", model.preprocessing.channels)
    volumes = []
    with counting("generating") as tick:
        for number in range(count):
            volumes.append(model.channels(model.draw(seed, number)))
            tick(len(volumes), count)
    labels = model.preprocessing.labels
    images, soft_labels = split_channels(torch.stack(volumes), len(model.preprocessing.channels))
    maps = [
        largest_components(decode_labels(channels, labels, model.label_offset).numpy(), labels)
        for channels in soft_labels
        if labels
    ]
    label_maps = torch.from_numpy(np.stack(maps)) if labels else None
    return replace(undrawn(model, uri), images=stored(images), label_maps=label_maps)


def undrawn(model: Model, uri: str) -> GeneratedSet:
    """A model without any scans of it.

    Args:
        model: any.
        uri: it was loaded by.
    """
    folder, plan, facts = Path(uri), model.preprocessing, model.facts
    name = uri if ":/" in uri else folder.parent.name if folder.name == "model" else folder.name
    return GeneratedSet(
        name,
        torch.zeros(0, len(plan.channels), *plan.shape, device="cpu"),
        None,
        plan,
        str(facts.get("data_digest", "")),
        {key: facts[key] for key in ("volumes_seen",) if key in facts},
        model,
        _count(facts),
        str(facts.get("training_digest", "")),
    )


def is_baseline(uri: str) -> bool:
    """Whether a URI is the folder of a baseline."""
    return (Path(uri) / RECORD).is_file()


def is_generator(uri: str) -> bool:
    """Whether a URI is a model or the folder of a baseline, and not a folder of scans."""
    is_model = uri.startswith(("models:/", "runs:/")) or (Path(uri) / WEIGHTS).is_file()
    return is_model or is_baseline(uri)


def _count(facts: Mapping[str, Any]) -> int | None:
    found = facts.get("training_scans")
    return found if isinstance(found, int) else None


def _read_baseline(folder: Path, count: int) -> GeneratedSet:
    try:
        record = read_json(folder / RECORD)
        images = load((folder / SAMPLES).read_bytes())["images"][:count]
        preprocessing = Preprocessing.model_validate(record["preprocessing"])
        effort = {key: record[key] for key in ("volumes_seen", "seconds", "parameters", "batch")}
        return GeneratedSet(
            record["name"], stored(images), None, preprocessing, record["data_digest"], effort,
            training_scans=_count(record), training_digest=record.get("training_digest", ""),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        raise ModelError(
            "E_MODEL", str(folder), "baseline.json or samples.safetensors is damaged",
            "run medgan baseline again",
        ) from None  # fmt: skip
