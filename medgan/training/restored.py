"""Evaluation of a restorer during training: errors on validation scans with lesions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan.data.batches import PreparedVolumes
from medgan.data.lesions import FAMILIES
from medgan.networks.metrics import band_features, clipped_share, diversity, kernel_distance
from medgan.reporting.sample_grid import restoration_grid
from medgan.training.corruption import lesioned
from medgan.training.samples import GRID, Adaptation, distance_metrics, warn_of_low_diversity
from medgan.training.state import TrainingState

_TRIES = 20
"""To plant a lesion in a validation scan: a quarter of all scans get none."""


@dataclass(frozen=True)
class Reference:
    """Scans that a restorer is evaluated on, with the same lesions from first to last.

    Attributes:
        healthy: validation scans, (N, C, X, Y, Z) in [-1, 1].
        corrupted: the same with lesions.
        lesion: where these are, (N, 1, X, Y, Z).
        training: as many training scans.
        floor: kernel distance of training and validation scans.
        diversity: of the validation scans.
    """

    healthy: Tensor
    corrupted: Tensor
    lesion: Tensor
    training: Tensor
    floor: float
    diversity: float


def make_reference(validation: PreparedVolumes, training: PreparedVolumes, seed: int) -> Reference:
    """Validation scans, with lesions that are a function of the seed, and training scans."""
    rng = np.random.default_rng([seed, 1])
    scans = [validation.arrays(number)[0] for number in range(len(validation))]
    made = [_with_lesions(scan, scans[number - 1], rng) for number, scan in enumerate(scans)]
    healthy, corrupted, lesion = (
        torch.from_numpy(np.stack(part))
        for part in (scans, [scan for scan, _ in made], [mask for _, mask in made])
    )
    count = min(len(training), len(scans))
    known = torch.from_numpy(np.stack([training.arrays(n)[0] for n in range(count)]))
    floor = float(kernel_distance(band_features(healthy), band_features(known)))
    return Reference(healthy, corrupted, lesion > 0, known, floor, float(diversity(healthy)))


def _with_lesions(
    scan: np.ndarray, donor: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The scan with lesions, of which there is at least one, and where they are."""
    corrupted, truth = scan, np.zeros_like(scan[:1])
    for _ in range(_TRIES):
        if not truth.any():
            corrupted, truth = lesioned(scan, donor, list(FAMILIES), rng)
    return corrupted, truth


def contrast_removed(healthy: Tensor, corrupted: Tensor, restored: Tensor) -> float:
    """Share of what a lesion changed that is gone: 0 where it is as before, 1 where it vanished.

    Args:
        healthy: voxels of a lesion as they were without it.
        corrupted: with it.
        restored: in the healthy counterpart. What is added there, such as blur, does not count.
    """
    change = corrupted - healthy
    return 1 - float(((restored - healthy) * change).sum() / change.square().sum())


@torch.no_grad()
def evaluate_restoration(
    state: TrainingState,
    path: Path,
    seen: Callable[[Tensor], Tensor],
    reference: Reference,
    adaptation: Adaptation | None,
    batch: int,
) -> dict[str, float]:
    """Metrics and a picture of the averaged restorer.

    Args:
        state: of the training.
        path: of the picture.
        seen: volumes to what the restorer takes.
        reference: scans with and without lesions.
        adaptation: of the discriminator's augmentation, where it is adaptive.
        batch: volumes at a time.

    Returns:
        `samples/restoration`, the error within lesions plus that of healthy scans, and its parts.
    """
    restorer = state.average.needed_restorer

    def restore(volumes: Tensor) -> Tensor:
        restored = []
        for part in volumes.split(batch):
            shown = seen(part.to(state.device))
            with state.autocast():
                restored.append(restorer(shown).float().cpu())
        return torch.cat(restored)

    restored, kept = restore(reference.corrupted), restore(reference.healthy)
    error = (restored - reference.healthy).abs()
    before = (reference.corrupted - reference.healthy).abs()
    lesion = reference.lesion.expand_as(error)
    inside, clean = float(error[lesion].mean()), float((kept - reference.healthy).abs().mean())
    metrics = {
        "samples/restoration": inside + clean,  # a restorer replaces lesions and nothing else
        "samples/restoration_lesion": inside,
        "samples/contrast_removed": contrast_removed(
            reference.healthy[lesion], reference.corrupted[lesion], restored[lesion]
        ),
        "samples/restoration_volume": float(error.mean()),
        "samples/corruption_lesion": float(before[lesion].mean()),
        "samples/corruption_volume": float(before.mean()),
        "samples/reconstruction": clean,
        "samples/clipped": float(clipped_share(restored, reference.healthy)),
    }
    metrics |= distance_metrics(restored, reference.healthy, reference.floor, reference.diversity)
    if adaptation is not None:
        state.augment = adaptation.adapted(state, reference.training, reference.healthy, restored)
        metrics["train/augment"] = state.augment
    warn_of_low_diversity(metrics["samples/diversity"], state.volumes_seen)
    shown = (v[:GRID, 0].numpy() for v in (reference.corrupted, restored, reference.healthy))
    restoration_grid(path, *shown, title=f"{state.volumes_seen:,} volumes seen")
    return metrics
