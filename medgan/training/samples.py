"""Evaluation of generated samples during training: metrics and pictures."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan.data.batches import PreparedVolumes
from medgan.data.conditions import draw, encode
from medgan.data.labels import decode_labels, volume_keeping_offset
from medgan.networks.channels import image_channels, split_channels
from medgan.networks.generator import Generator
from medgan.networks.metrics import (
    band_features,
    clipped_share,
    diversity,
    kernel_distance,
    neighbourhoods,
    standardised,
)
from medgan.reporting.sample_grid import sample_grid
from medgan.training.monitor import LOW_DIVERSITY
from medgan.training.state import TrainingState

log = logging.getLogger(__name__)
GRID = 8
"""Columns of the picture."""
_MOST_SAMPLES = 64
_MOST_LABEL_MAPS = 64
_ADAPTING = 16_000
"""Volumes in which an adapted probability can go from 0 to 1."""
_MOST_AUGMENTED = 0.3
"""Far below the probability at which augmentation shows in generated photographs (0.8; arXiv
2006.06676, section 2.2). With higher ones, samples of 120 hippocampi became worse during training,
and better again at this one (docs/explanation/generator.md)."""


@dataclass
class Reference:
    """What generated samples are compared with, fixed for the whole training.

    Attributes:
        latents: of the samples, (N, L).
        conditions: encoded conditions of the samples, distributed as in the training scans, (N, D).
        volumes: validation volumes, (M, C, X, Y, Z).
        seen: as many training volumes, or fewer, (K, C, X, Y, Z).
        labels: label values that are learned.
        label_volumes: mean voxels of each label in validation label maps; empty without any.
        label_offset: the offset with which generated label channels become label maps.
        floor: kernel distance between training and validation volumes: that of samples as close to
            the validation volumes as other real volumes are.
        diversity: of the validation volumes.
        seed: of the noise of the samples, where it is a condition.
    """

    latents: Tensor
    conditions: Tensor
    volumes: Tensor
    seen: Tensor
    labels: tuple[int, ...]
    label_volumes: tuple[float, ...]
    label_offset: float
    floor: float
    diversity: float
    seed: int = 1


@torch.no_grad()
def make_reference(
    state: TrainingState, held_out: PreparedVolumes, training: PreparedVolumes, seed: int
) -> Reference:
    """Fixes the latents and real volumes of all evaluations.

    Args:
        state: gives the latent's length and the device.
        held_out: validation scans.
        training: training scans, for the floor; at most as many as validation scans are taken.
        seed: of the latents.
    """
    items = [held_out[i] for i in range(len(held_out))]
    volumes = torch.stack([image for image, _, _ in items])
    seen = torch.stack([training[i][0] for i in range(min(len(training), len(held_out)))])
    labels = held_out.labels
    maps = _label_maps(held_out)
    generator = torch.Generator().manual_seed(seed + 1)
    count = max(2 * GRID, min(_MOST_SAMPLES, 2 * len(volumes)))
    latents = torch.randn(count, state.networks.generator.latent, generator=generator)
    rng = np.random.default_rng(seed + 1)
    drawn = [draw(training.conditions, {}, rng) for _ in range(count)]
    conditions = np.stack([encode(training.conditions, values) for values in drawn])
    return Reference(
        latents.to(state.device),
        torch.from_numpy(conditions).to(state.device),
        volumes,
        seen,
        labels,
        _label_volumes(maps, labels) if maps else (),
        label_offset(training),
        float(kernel_distance(band_features(volumes), band_features(seen))),
        float(diversity(volumes)),
        seed + 1,
    )


@torch.no_grad()
def evaluate_samples(
    state: TrainingState,
    path: Path,
    reference: Reference,
    adaptation: "Adaptation | None",
    batch: int,
    micro_batch: int,
) -> dict[str, float]:
    """Metrics and a picture of the averaged networks; a warning when samples hardly vary.

    Args:
        state: of the training; its augmentation is adapted.
        path: of the picture.
        reference: what samples are compared with.
        adaptation: of the augmentation; None leaves it as it is.
        batch: volumes that are generated at a time.
        micro_batch: volumes that are reconstructed at a time; 0 takes `batch`.

    Returns:
        The metrics, `samples/...`.
    """
    networks, count = state.average, reference.volumes.shape[1]
    random = torch.Generator().manual_seed(reference.seed)
    with state.autocast():
        parts = zip(reference.latents.split(batch), reference.conditions.split(batch), strict=True)
        fakes = torch.cat(
            [_drawn(networks.generator, z, networks.seen(c), random) for z, c in parts]
        )
        real = reference.volumes[:GRID].to(state.device)
        recons = torch.cat(
            [
                image_channels(networks.generator(networks.encoder(part)), count).float().cpu()
                for part in real.split(micro_batch or batch)
            ]
        )
    (images, soft_labels), real = split_channels(fakes, count), real.cpu()
    maps = [
        decode_labels(channels, reference.labels, reference.label_offset)
        for channels in soft_labels
        if reference.labels
    ]
    metrics = distance_metrics(images, reference.volumes, reference.floor, reference.diversity)
    metrics["samples/reconstruction"] = float((recons - real).abs().mean())
    metrics["samples/clipped"] = float(clipped_share(images, reference.volumes))
    metrics |= _label_metrics(maps, reference)
    if adaptation is not None:
        state.augment = adaptation.adapted(state, reference.seen, reference.volumes, images)
        metrics["train/augment"] = state.augment
    warn_of_low_diversity(metrics["samples/diversity"], state.volumes_seen)
    sample_grid(
        path,
        images[:GRID, 0].numpy(),
        real[:, 0].numpy(),
        recons[:, 0].numpy(),
        [m.numpy() for m in maps[:GRID]],
        f"{state.volumes_seen:,} volumes seen",
    )
    return metrics


def _drawn(
    generator: Generator, latents: Tensor, conditions: Tensor, random: torch.Generator
) -> Tensor:
    white = generator.white_noise(len(latents), random)
    return generator(latents, conditions, white=white).float().cpu()


def distance_metrics(
    fake: Tensor, real: Tensor, floor: float, real_diversity: float
) -> dict[str, float]:
    """Distance and overlap of generated and real volumes, and how much the generated ones vary."""
    features = band_features(real), band_features(fake)
    overlap = neighbourhoods(*standardised(*features))
    return {
        "samples/kernel_distance": float(kernel_distance(*features)),
        "samples/kernel_distance_floor": floor,
        "samples/diversity": float(diversity(fake)) / max(real_diversity, 1e-6),
        "samples/precision": overlap.precision,
        "samples/coverage": overlap.coverage,
    }


def warn_of_low_diversity(share: float, volumes_seen: int) -> None:
    """Warns where samples vary far less than real scans."""
    if share < LOW_DIVERSITY:
        log.warning(
            "E_DIVERSITY at %d volumes: samples vary %.0f%% as much as real scans; more data, a "
            "higher train.gamma or a lower train.learning_rate help",
            volumes_seen, 100 * share,
        )  # fmt: skip


@dataclass(frozen=True)
class Adaptation:
    """Adapts the probability of augmentation to how far the discriminator overfits.

    Attributes:
        every: volumes from one evaluation to the next.
        batch: volumes that are judged at a time.
    """

    every: int
    batch: int

    def adapted(
        self, state: TrainingState, training: Tensor, validation: Tensor, fake: Tensor
    ) -> float:
        """The probability of augmentation until the next evaluation.

        It rises where the discriminator overfits: where the gap between its logits of training and
        validation scans exceeds half the gap between training scans and samples. Otherwise it
        falls.

        Reference: Karras et al. 2020, arXiv 2006.06676, eq. 1 (r_v).
        """

        def mean_logit(volumes: Tensor) -> float:
            parts = volumes.to(state.device).split(self.batch)
            return float(torch.cat([state.networks.critic(part) for part in parts]).mean())

        seen, held_out, generated = (mean_logit(v) for v in (training, validation, fake))
        overfits = seen - held_out > 0.5 * (seen - generated)
        step = self.every / _ADAPTING * (1 if overfits else -1)
        return min(_MOST_AUGMENTED, max(0.0, state.augment + step))


def remove_later_pictures(folder: Path, volumes_seen: int) -> None:
    """Removes the pictures of evaluations after the point from which a training continues.

    Args:
        folder: of the training.
        volumes_seen: at that point.
    """
    for picture in (folder / "samples").glob("*.png"):
        if int(picture.stem) > volumes_seen:
            picture.unlink()


def label_offset(volumes: PreparedVolumes) -> float:
    """The offset with which generated label channels become label maps, from training scans."""
    maps = _label_maps(volumes)
    return volume_keeping_offset(maps, volumes.labels) if maps else 0.0


def _label_maps(volumes: PreparedVolumes) -> list[Tensor]:
    found = (
        volumes.label_map(i) for i in range(min(len(volumes), _MOST_LABEL_MAPS)) if volumes.labels
    )
    return [label_map for label_map in found if label_map is not None]


def _label_metrics(maps: list[Tensor], reference: Reference) -> dict[str, float]:
    """Mean volume of each generated label, relative to that in validation label maps."""
    if not reference.label_volumes:
        return {}
    volumes = _label_volumes(maps, reference.labels)
    return {
        f"samples/label_{value}_volume": fake / max(real, 1e-6)
        for value, fake, real in zip(
            reference.labels, volumes, reference.label_volumes, strict=True
        )
    }


def _label_volumes(maps: list[Tensor], labels: tuple[int, ...]) -> tuple[float, ...]:
    """Mean voxels of each label over label maps."""
    return tuple(float(sum((m == v).sum() for m in maps)) / len(maps) for v in labels)
