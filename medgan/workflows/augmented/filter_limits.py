"""Limits of the filters, estimated from real scans and the first candidates."""

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import coarse_features
from medgan.core.volume import AIR
from medgan.data.prepared import RealScans
from medgan.evaluation.privacy.copies import similarity
from medgan.evaluation.probes.plausibility import (
    dice_by_volume,
    foreground_volumes,
    label_volumes,
    outlier_bounds,
    range_bounds,
)
from medgan.evaluation.probes.segmentation import segment, train_segmenter
from medgan.model.model import Model
from medgan.model.outputs import Synthetic
from medgan.workflows.augmented.filters import Bounds, Filters, as_classes, atypicality, logits_of

log = logging.getLogger(__name__)
FIRST = 64
"""Candidates that the limits of realism and appearance are estimated from."""
OUTLIER = 4.0
"""Robust standard deviations from the median candidate beyond which a candidate is an outlier."""
VOLUME_MARGIN = 0.25
"""Share by which volumes may leave the range of training scans."""
APPEARANCE_MARGIN = 0.1
"""Share by which textures may be further from real ones than those of held-out training scans."""
CONSISTENCY_PERCENTILE = 1.0
"""Percentile of the Dice of held-out training scans below which labels are inconsistent."""
PRIVACY_PERCENTILE = 99.0
"""Percentile of the similarity of real scans to training scans of others above which a candidate is
too similar. With these five limits 75 of 80 real hippocampi that were never trained on pass, and
none of 80 copies, shifted or noisy ones included (docs/how-to/augment.md)."""
SEGMENTER_STEPS = 600
"""Training steps of each of the two segmenters."""
FEWEST_LABELLED = 4
"""Label maps below which no segmenter is trained."""


def calibrate_filters(
    model: Model,
    train: RealScans,
    held_out: RealScans | None,
    subjects: Sequence[str],
    names: Sequence[str],
    first: Callable[[], Sequence[Synthetic]],
    seed: int,
    kept: Sequence[nn.Module] = (),
) -> Filters:
    """Estimates limits from real scans, and that of the logits from the first candidates.

    The discriminator gives its training scans higher logits than other scans, and noise average
    ones: its logits only identify outliers among candidates. Textures are checked by
    densities of local features, labels by segmenters. Both are trained on one half of the training
    scans; the limits come from the other half.

    Args:
        model: that generates the candidates.
        train: training scans on the model's grid.
        held_out: calibration scans; without them training scans are compared with each other.
        subjects: of the training scans; scans of one subject are not compared.
        names: of the filters that are on.
        first: gives the first candidates.
        seed: of halves and segmenters.
        kept: segmenters of an earlier run.
    """
    device = model.device
    labels = model.preprocessing.labels
    images = train.images.to(device)
    asked = set(names)
    if "realism" in asked and model.networks.discriminator is None:
        log.warning("the model has no discriminator: the filter realism is off")
        asked.remove("realism")
    filters = Filters(model, images)
    limits = filters.limits
    classes = as_classes(train.label_maps, labels)
    order = torch.from_numpy(np.random.default_rng([seed, 7]).permutation(len(images)))
    halves = (order[: len(order) // 2], order[len(order) // 2 :])
    if "volumes" in asked:
        limits |= _volume_limits(model, images, classes)
    if asked & {"appearance", "realism"}:
        candidates = torch.cat([filters.as_volume(scan) for scan in first()])
        if "appearance" in asked:
            _appearance_limit(filters, halves, candidates)
        if "realism" in asked:
            # Only below: held-out real scans lie above most candidates.
            lowest, _ = outlier_bounds(logits_of(model, candidates).double(), OUTLIER)
            limits["realism"] = Bounds(lowest, math.inf)
    if "consistency" in asked and labels and len(classes) >= FEWEST_LABELLED:
        _consistency_limit(filters, images[train.labelled], classes, seed, kept)
    elif "consistency" in asked and labels:
        log.warning("%d label maps are too few for a segmenter: labels are not checked",
                    len(classes))  # fmt: skip
    if "privacy" in asked:
        _privacy_limit(filters, held_out, subjects)
    for name, (low, high) in limits.items():
        log.info("limits of %s: %.4g to %.4g", name, low, high)
    return filters


def _volume_limits(model: Model, images: Tensor, classes: Tensor) -> dict[str, Bounds]:
    labels, voxel = model.preprocessing.labels, math.prod(model.preprocessing.spacing)
    foreground = foreground_volumes(images, AIR, voxel).cpu()
    limits = {"foreground_mm3": Bounds(*range_bounds(foreground, VOLUME_MARGIN))}
    if len(classes):
        volumes = label_volumes(classes, len(labels), voxel)
        for number, value in enumerate(labels):
            low, high = range_bounds(volumes[:, number], VOLUME_MARGIN)
            limits[f"label_{value}_mm3"] = Bounds(low, high)
    return limits


def _appearance_limit(filters: Filters, halves: tuple[Tensor, Tensor], candidates: Tensor) -> None:
    """Densities of each half of the training scans, and the limit from the other half.

    If the median candidate is beyond that limit, only outliers among the candidates are dropped,
    with a warning.
    """
    images = filters.references
    found, densities = [], []
    with torch.inference_mode():
        for mine, others in (halves, halves[::-1]):
            features = (coarse_features(part) for part in images[mine].split(8))
            densities.append(FeatureDensity.fit(features).to(images.device))
            found.append(atypicality(densities[-1], images[others]))
    filters.densities = tuple(densities)
    real = float(torch.cat(found).quantile(0.99)) * (1 + APPEARANCE_MARGIN)
    generated = torch.stack([atypicality(density, candidates) for density in densities]).mean(dim=0)
    middle = float(generated.quantile(0.5))
    filters.facts["appearance_of_real_scans"] = round(real, 4)
    filters.facts["appearance_of_the_median_candidate"] = round(middle, 4)
    limit = real
    if middle > real:
        _, limit = outlier_bounds(generated.double(), OUTLIER)
        log.warning("the textures of most candidates (%.2f) are beyond the limit of real scans "
                    "(%.2f): train longer; only outliers are dropped", middle, real)  # fmt: skip
    filters.limits["appearance"] = Bounds(0.0, limit)


def _consistency_limit(
    filters: Filters,
    images: Tensor,
    classes: Tensor,
    seed: int,
    kept: Sequence[nn.Module],
) -> None:
    """Segmenters trained on each half, and the limit from their Dice on the other half."""
    labels = len(filters.model.preprocessing.labels)
    classes = classes.to(images.device)
    order = torch.from_numpy(np.random.default_rng([seed, 8]).permutation(len(images)))
    halves = (order[: len(order) // 2], order[len(order) // 2 :])
    networks, dice = list(kept), []
    for number, (mine, others) in enumerate((halves, halves[::-1])):
        if len(networks) <= number:
            log.info("training segmenter %d of 2", number + 1)
            networks.append(
                train_segmenter(images[mine], classes[mine], labels, SEGMENTER_STEPS, seed + number)
            )
        found = segment(networks[number], images[others])
        dice.append(dice_by_volume(found, classes[others], labels))
    reached = torch.cat(dice)
    filters.segmenters = tuple(networks)
    filters.limits["consistency"] = Bounds(
        float(reached.quantile(CONSISTENCY_PERCENTILE / 100)), 1.0
    )
    filters.facts["dice_of_held_out_real_scans"] = round(float(reached.mean()), 4)


def _privacy_limit(filters: Filters, held_out: RealScans | None, subjects: Sequence[str]) -> None:
    """Limit of similarity, from training and held-out scans against training scans of others.

    Held-out scans alone are too few: the closest of 40 hippocampi was less similar to any training
    scan than every fifth of 40 others.
    """
    references = filters.references
    among = similarity(references, references)
    own = np.array(subjects)
    same = torch.from_numpy(own[:, None] == own[None])
    nearest = among.masked_fill(same.to(among.device), -1.0).amax(dim=1)
    if held_out is not None:
        others = similarity(held_out.images.to(references.device), references).amax(dim=1)
        nearest = torch.cat([nearest, others])
    limit = float(nearest.double().quantile(PRIVACY_PERCENTILE / 100))
    filters.limits["similarity"] = Bounds(-1.0, limit)
    filters.facts["privacy_scans"] = len(nearest)
