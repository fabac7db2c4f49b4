"""How a training is looked at: pictures and figures of the averaged networks."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medgan.config import TrainConfig
from medgan.data.labels import harden, volume_keeping_offset
from medgan.data.loaders import PreparedVolumes
from medgan.metrics import band_features, diversity, kernel_distance
from medgan.pictures import sample_grid
from medgan.tracking.tracker import Tracker
from medgan.training.state import TrainingState
from medgan.training.steps import autocast
from medgan.training.watch import LOW_DIVERSITY

log = logging.getLogger(__name__)
GRID = 8
MOST = 64
_ADAPTING = 16_000
"""Volumes in which an adapted probability can go from 0 to 1."""
_MOST_AUGMENTED = 0.8
"""From here on augmentations begin to show in the samples (arXiv 2006.06676, section 2.2)."""


@dataclass
class Reference:
    """What training is looked at with, the same from first to last.

    Attributes:
        latents: fixed latents of the pictures and figures, (N, L).
        volumes: held-out real volumes, (M, 1, X, Y, Z).
        seen: as many training volumes or fewer, (N, 1, X, Y, Z).
        labels: label values that are learned.
        label_volumes: mean voxels of each label in held-out label maps; empty without any.
        label_offset: with which generated label channels become label maps, from training
            label maps.
        floor: kernel distance of training volumes from the held-out ones; what is reached
            when fakes are as close to them as other real volumes.
        diversity: of the held-out real volumes.
    """

    latents: Tensor
    volumes: Tensor
    seen: Tensor
    labels: tuple[int, ...]
    label_volumes: tuple[float, ...]
    label_offset: float
    floor: float
    diversity: float


@torch.no_grad()
def make_reference(
    state: TrainingState, held_out: PreparedVolumes, training: PreparedVolumes, seed: int
) -> Reference:
    """Fixes latents and real volumes to look at a training with.

    Args:
        state: gives the latent's length and the device.
        held_out: calibration scans.
        training: training scans, for the floor; as many are taken as there are held-out ones.
        seed: of the latents.
    """
    items = [held_out[i] for i in range(len(held_out))]
    volumes = torch.stack([image for image, _, _ in items])
    seen = torch.stack([training[i][0] for i in range(min(len(training), len(held_out)))])
    labels = held_out.labels
    maps = _label_maps(held_out)
    learned = _label_maps(training)
    generator = torch.Generator().manual_seed(seed + 1)
    count = max(2 * GRID, min(MOST, 2 * len(volumes)))
    latents = torch.randn(count, state.networks.generator.latent, generator=generator)
    return Reference(
        latents.to(state.device),
        volumes,
        seen,
        labels,
        _label_volumes(maps, labels) if maps else (),
        volume_keeping_offset(learned, labels) if learned else 0.0,
        float(kernel_distance(band_features(volumes), band_features(seen))),
        float(diversity(volumes)),
    )


@torch.no_grad()
def look(
    state: TrainingState, reference: Reference, config: TrainConfig, tracker: Tracker, folder: Path
) -> dict[str, float]:
    """Writes and records a picture and the figures of the moment; warns of low diversity.

    Returns:
        The figures, `samples/...`, of the averaged networks.
    """
    networks = state.average
    noise = torch.Generator().manual_seed(config.seed + 1)
    with autocast(state, config):
        fakes = torch.cat(
            [
                networks.generator(z, noise).float().cpu()
                for z in reference.latents.split(config.batch)
            ]
        )
        seen = reference.volumes[:GRID].to(state.device)
        recons = networks.generator(networks.encoder(seen))[:, :1].float().cpu()
    images, seen = fakes[:, :1].clamp(-1, 1), seen.cpu()
    maps = [
        harden(channels, reference.labels, reference.label_offset)
        for channels in fakes[:, 1:]
        if reference.labels
    ]
    share = float(diversity(images)) / max(reference.diversity, 1e-6)
    distance = kernel_distance(band_features(reference.volumes), band_features(images))
    figures = {
        "samples/kernel_distance": float(distance),
        "samples/kernel_distance_floor": reference.floor,
        "samples/diversity": share,
        "samples/reconstruction": float((recons - seen).abs().mean()),
    }
    if reference.label_volumes:
        fake_volumes = _label_volumes(maps, reference.labels)
        for value, fake, real in zip(
            reference.labels, fake_volumes, reference.label_volumes, strict=True
        ):
            figures[f"samples/label_{value}_volume"] = fake / max(real, 1e-6)
    if config.augment == "adaptive":
        state.augment = adapted(state, reference, images, config)
        figures["train/augment"] = state.augment
    tracker.log(figures, state.volumes_seen)
    if share < LOW_DIVERSITY:
        log.warning(
            "E_DIVERSITY at %d volumes: samples vary %.0f%% as much as real scans; more data, a "
            "higher train.gamma or a lower train.learning_rate help",
            state.volumes_seen, 100 * share,
        )  # fmt: skip
    path = folder / "samples" / f"{state.volumes_seen:09d}.png"
    sample_grid(
        path,
        images[:GRID, 0].numpy(),
        seen[:, 0].numpy(),
        recons[:, 0].numpy(),
        [m.numpy() for m in maps[:GRID]],
        f"{state.volumes_seen:,} volumes seen",
    )
    tracker.picture(path)
    return figures


def adapted(
    state: TrainingState, reference: Reference, fakes: Tensor, config: TrainConfig
) -> float:
    """The probability of augmentation from here to the next look.

    How much better than held-out scans the discriminator judges training scans, on the way from
    fakes to them, tells how far it learned them by heart; above one half the probability rises,
    below it falls.

    Reference: Karras et al. 2020, arXiv 2006.06676, eq. 1 (r_v).
    """

    def verdict(volumes: Tensor) -> float:
        parts = volumes.to(state.device).split(config.batch)
        return float(torch.cat([state.networks.discriminator(part) for part in parts]).mean())

    seen, held_out, fake = (verdict(v) for v in (reference.seen, reference.volumes, fakes))
    by_heart = seen - held_out > 0.5 * (seen - fake)
    step = config.sample_every / _ADAPTING * (1 if by_heart else -1)
    return min(_MOST_AUGMENTED, max(0.0, state.augment + step))


def forget_pictures(folder: Path, beyond: int) -> None:
    """Removes pictures of a course that the training did not take in the end.

    Args:
        folder: of the training.
        beyond: volumes seen up to which the course holds.
    """
    for picture in (folder / "samples").glob("*.png"):
        if int(picture.stem) > beyond:
            picture.unlink()


def _label_maps(volumes: PreparedVolumes) -> list[Tensor]:
    found = (volumes.label_map(i) for i in range(min(len(volumes), MOST)) if volumes.labels)
    return [label_map for label_map in found if label_map is not None]


def _label_volumes(maps: list[Tensor], labels: tuple[int, ...]) -> tuple[float, ...]:
    """Mean voxels of each label over label maps."""
    return tuple(float(sum((m == v).sum() for m in maps)) / len(maps) for v in labels)
