"""Evaluation of a translator during training: errors on pairs from validation scans."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan.data.pairs.pair import Pair
from medgan.networks.losses import ranked_probability_score, weighted_error
from medgan.networks.metrics import band_features, clipped_share, diversity, kernel_distance
from medgan.reporting.sample_grid import translation_grid
from medgan.training.samples import GRID, distance_metrics, warn_of_low_diversity
from medgan.training.state import TrainingState


@dataclass(frozen=True)
class Reference:
    """Pairs that a translator is evaluated on, the same from first to last.

    Attributes:
        source, target, weight: as in `Pair`, the first axis over pairs.
        noise: of two answers, (2, N, 1, X, Y, Z).
        floor: kernel distance of targets from validation and from training scans.
        diversity: of the targets.
    """

    source: Tensor
    target: Tensor
    weight: Tensor
    noise: Tensor
    floor: float
    diversity: float


def make_reference(validation: Sequence[Pair], training: Sequence[Pair]) -> Reference:
    """Pairs from validation scans, and how far targets from training scans are from theirs."""
    source, target, weight = (
        torch.from_numpy(np.stack(part)) for part in zip(*validation, strict=True)
    )
    noise = torch.randn(
        2, len(source), 1, *source.shape[2:], generator=torch.Generator().manual_seed(0)
    )
    known = torch.from_numpy(np.stack([pair.target for pair in training[: len(validation)]]))
    floor = float(kernel_distance(band_features(target), band_features(known)))
    return Reference(source, target, weight, noise, floor, float(diversity(target)))


@torch.no_grad()
def evaluate_translation(
    state: TrainingState, path: Path, reference: Reference, batch: int
) -> dict[str, float]:
    """Metrics and a picture of the averaged translator.

    Args:
        state: of the training.
        path: of the picture.
        reference: pairs.
        batch: pairs at a time.

    Returns:
        `samples/translation`, the ranked probability score of two answers in [-1, 1] where the
        target is known; `samples/error`, the absolute error without noise; and others. Answers
        are compared with targets there alone.
    """
    translator = state.average.needed_translator

    def answers(noise: Tensor) -> Tensor:
        parts = zip(reference.source.split(batch), noise.split(batch), strict=True)
        with state.autocast():
            drawn = [translator(s.to(state.device), n.to(state.device)).cpu() for s, n in parts]
        return torch.where(reference.weight > 0, torch.cat(drawn), reference.target)

    usual, target = answers(torch.zeros_like(reference.noise[0])), reference.target
    first, second = map(answers, reference.noise)
    score = ranked_probability_score(target, first, second, reference.weight)
    metrics = {
        "samples/translation": float(score),
        "samples/error": float(weighted_error(target, usual, reference.weight)),
        "samples/spread": float(weighted_error(first, second, reference.weight)),
        "samples/clipped": float(clipped_share(first, target)),
    }
    metrics |= distance_metrics(first, target, reference.floor, reference.diversity)
    warn_of_low_diversity(metrics["samples/diversity"], state.volumes_seen)
    shown = (v[:GRID, 0].numpy() for v in (reference.source, usual, first, target))
    translation_grid(path, *shown, title=f"{state.volumes_seen:,} volumes seen")
    return metrics
