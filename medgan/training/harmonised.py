"""Evaluation of a harmonisation during training: how far changed scans are from the wanted site."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medgan.networks.metrics import band_features, clipped_share, diversity, kernel_distance
from medgan.reporting.sample_grid import harmonisation_grid
from medgan.training.samples import GRID, distance_metrics, warn_of_low_diversity
from medgan.training.state import TrainingState


@dataclass(frozen=True)
class Reference:
    """Parts of scans that a translator is evaluated on, the same from first to last.

    Attributes:
        given: of validation scans that are changed, (N, C, X, Y, Z).
        wanted: as many of validation scans of the wanted site.
        floor: kernel distance of the wanted site's validation and training scans.
        before: of the given parts, as they are, from the wanted ones.
        diversity: of the wanted parts.
    """

    given: Tensor
    wanted: Tensor
    floor: float
    before: float
    diversity: float


def make_reference(given: Tensor, wanted: Tensor, seen: Tensor) -> Reference:
    """Parts of both sites; `seen` are those of training scans of the wanted one."""
    features, known = band_features(wanted), band_features(seen[: len(wanted)])
    return Reference(
        given, wanted, float(kernel_distance(features, known)),
        float(kernel_distance(features, band_features(given))), float(diversity(wanted)),
    )  # fmt: skip


@torch.no_grad()
def evaluate_harmonisation(
    state: TrainingState, path: Path, reference: Reference, batch: int
) -> dict[str, float]:
    """Metrics and a picture of the averaged translator.

    Args:
        state: of the training.
        path: of the picture.
        reference: parts of scans.
        batch: parts at a time.

    Returns:
        `samples/kernel_distance` of changed parts from the wanted site, that before the change,
        `samples/change`, the mean absolute change in [-1, 1], and others.
    """
    translator = state.average.needed_translator
    with state.autocast():
        parts = [translator(part.to(state.device)) for part in reference.given.split(batch)]
    changed = torch.cat([part.float().cpu() for part in parts])
    changed = torch.where(reference.given > -1, changed, -1.0)  # air stays, as in what is written
    metrics = distance_metrics(changed, reference.wanted, reference.floor, reference.diversity)
    metrics |= {
        "samples/kernel_distance_before": reference.before,
        "samples/change": float((changed - reference.given).abs().mean()),
        "samples/clipped": float(clipped_share(changed, reference.wanted)),
    }
    warn_of_low_diversity(metrics["samples/diversity"], state.volumes_seen)
    shown = (v[:GRID, 0].numpy() for v in (reference.given, changed, reference.wanted))
    harmonisation_grid(path, *shown, title=f"{state.volumes_seen:,} volumes seen")
    return metrics
