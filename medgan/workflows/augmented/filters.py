"""Which synthetic scans are good enough: limits learned from real scans and a first few candidates.

A verdict depends on the candidate alone, never on other candidates, so scans can be made in any
order and on several machines.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import coarse_features
from medgan.core.config import AugmentConfig
from medgan.core.volume import AIR
from medgan.data.prepare import synthetic_scale
from medgan.data.prepared import RealScans, stored
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

log = logging.getLogger(__name__)
FIRST = 64
"""Candidates whose logits say which are usual."""
OUTLIER = 4.0
"""Robust standard deviations from the median candidate at which one is an outlier."""
FEWEST_LABELLED = 4
"""Label maps below which no segmenter is trained."""


class Bounds(NamedTuple):
    """Between which a figure must lie."""

    low: float
    high: float


class Verdict(NamedTuple):
    """What was measured of a candidate, and what it fails on.

    Attributes:
        figures: by name.
        by: name of the filter that drops it, the first of several; empty if none does.
    """

    figures: dict[str, float]
    by: str


@dataclass
class Filters:
    """What candidates are measured with, and the limits.

    Attributes:
        model: that made them.
        references: real training scans, (M, 1, X, Y, Z).
        limits: bounds by the name of a figure; what has none is not looked at.
        densities: of local features of either half of the training scans.
        segmenters: trained on either half of the labelled training scans.
        facts: how the limits came about, for the record.
    """

    model: Model
    references: Tensor
    limits: dict[str, Bounds] = field(default_factory=dict)
    densities: tuple[FeatureDensity, ...] = ()
    segmenters: tuple[nn.Module, ...] = ()
    facts: dict[str, float | int | str] = field(default_factory=dict)

    def judge(self, scan: Synthetic) -> Verdict:
        """Measures a synthetic scan and compares with the limits."""
        image = self.as_volume(scan)
        classes = None
        if scan.label is not None:
            classes = as_classes(
                torch.from_numpy(scan.label.data.astype(np.int64))[None],
                self.model.preprocessing.labels,
            )
        return self.judge_volume(image, classes)

    def judge_volume(self, image: Tensor, classes: Tensor | None) -> Verdict:
        """The same for an image (1, 1, X, Y, Z) in [-1, 1] and classes (1, X, Y, Z) or None.

        What takes longest comes last, and nothing is measured of a scan that has failed.
        """
        figures: dict[str, float] = {}
        for measure in (self._volumes, self._looks, self._labels, self._nearest):
            found = measure(image, classes)
            figures |= {name: round(value, 5) for name, value in found.items()}
            for name in found:
                low, high = self.limits.get(name, Bounds(-math.inf, math.inf))
                if not low <= found[name] <= high:
                    return Verdict(figures, _filter_of(name))
        return Verdict(figures, "")

    def as_volume(self, scan: Synthetic) -> Tensor:
        """The image of a synthetic scan as its file holds it, (1, 1, X, Y, Z) in [-1, 1]."""
        data = torch.from_numpy(scan.image.data.astype(np.float32))
        scale = synthetic_scale(self.model.preprocessing)
        return stored(scale(data))[None, None].to(self.model.device)

    def _volumes(self, image: Tensor, classes: Tensor | None) -> dict[str, float]:
        labels, voxel = self.model.preprocessing.labels, math.prod(self.model.preprocessing.spacing)
        figures = {"foreground_mm3": float(foreground_volumes(image, AIR, voxel))}
        if classes is not None:
            volumes = label_volumes(classes, len(labels), voxel)[0].tolist()
            figures |= {f"label_{v}_mm3": mm3 for v, mm3 in zip(labels, volumes, strict=True)}
        return figures

    def _looks(self, image: Tensor, classes: Tensor | None) -> dict[str, float]:
        figures = {}
        if "appearance" in self.limits:
            strange = [float(_strangeness(density, image)) for density in self.densities]
            figures["appearance"] = float(np.mean(strange))
        if "realism" in self.limits:
            figures["realism"] = float(_logits(self.model, image))
        return figures

    def _labels(self, image: Tensor, classes: Tensor | None) -> dict[str, float]:
        if "consistency" not in self.limits or classes is None:
            return {}
        labels, own = len(self.model.preprocessing.labels), classes.to(image.device)
        dice = [dice_by_volume(segment(s, image), own, labels) for s in self.segmenters]
        return {"consistency": float(torch.stack(dice).mean())}

    def _nearest(self, image: Tensor, classes: Tensor | None) -> dict[str, float]:
        if "similarity" not in self.limits:
            return {}
        return {"similarity": float(similarity(image, self.references).max())}


def _filter_of(figure: str) -> str:
    """The name of the filter behind a figure."""
    return {"similarity": "privacy"}.get(figure, "volumes" if figure.endswith("_mm3") else figure)


def calibrate_filters(
    model: Model,
    train: RealScans,
    held_out: RealScans | None,
    subjects: Sequence[str],
    settings: AugmentConfig,
    first: Callable[[], Sequence[Synthetic]],
    seed: int,
    kept: Sequence[nn.Module] = (),
) -> Filters:
    """Learns the limits from real scans, and that of the logits from a first set of candidates.

    The discriminator gives scans that it was trained on higher logits than any others, and noise
    ordinary ones: its logits only tell which candidates are odd among candidates. Textures are
    judged by densities of local features, labels by segmenters, both trained on one half of
    the training scans, with limits from the other half.

    Args:
        model: whose candidates are to be judged.
        train: training scans on the model's grid.
        held_out: calibration scans; without them training scans are compared among each other.
        subjects: of the training scans, so that nobody is compared with themselves.
        settings: which filters are on, and how strict.
        first: gives the first candidates.
        seed: of halves and segmenters.
        kept: segmenters of an earlier run, to be used instead of training.
    """
    device = model.device
    labels = model.preprocessing.labels
    images = train.images.to(device)
    if settings.realism and model.networks.discriminator is None:
        log.warning("the model has no discriminator: candidates are not judged by it")
        settings = settings.model_copy(update={"realism": 0.0})
    filters = Filters(model, images)
    limits = filters.limits
    classes = as_classes(train.label_maps, labels)
    order = torch.from_numpy(np.random.default_rng([seed, 7]).permutation(len(images)))
    halves = (order[: len(order) // 2], order[len(order) // 2 :])
    if settings.volumes:
        limits |= _volume_limits(model, images, classes, settings.volumes)
    if settings.appearance or settings.realism:
        candidates = torch.cat([filters.as_volume(scan) for scan in first()])
        if settings.appearance:
            _appearance_limit(filters, halves, candidates, settings.appearance)
        if settings.realism:
            # Only below: held-out real scans lie above most candidates.
            lowest, _ = outlier_bounds(_logits(model, candidates).double(), settings.realism)
            limits["realism"] = Bounds(lowest, math.inf)
    if settings.consistency and labels and len(classes) >= FEWEST_LABELLED:
        _consistency_limit(filters, images[train.labelled], classes, settings, seed, kept)
    elif settings.consistency and labels:
        log.warning("%d label maps are too few for a segmenter: labels are not checked",
                    len(classes))  # fmt: skip
    if settings.privacy:
        _privacy_limit(filters, held_out, subjects, settings.privacy)
    for name, (low, high) in limits.items():
        log.info("limits of %s: %.4g to %.4g", name, low, high)
    return filters


def as_classes(label_maps: Tensor, labels: Sequence[int]) -> Tensor:
    """Label values to classes from 1, others to background."""
    classes = torch.zeros_like(label_maps, dtype=torch.long)
    for number, value in enumerate(labels, start=1):
        classes[label_maps == value] = number
    return classes


def _volume_limits(
    model: Model, images: Tensor, classes: Tensor, margin: float
) -> dict[str, Bounds]:
    labels, voxel = model.preprocessing.labels, math.prod(model.preprocessing.spacing)
    foreground = foreground_volumes(images, AIR, voxel).cpu()
    limits = {"foreground_mm3": Bounds(*range_bounds(foreground, margin))}
    if len(classes):
        volumes = label_volumes(classes, len(labels), voxel)
        for number, value in enumerate(labels):
            low, high = range_bounds(volumes[:, number], margin)
            limits[f"label_{value}_mm3"] = Bounds(low, high)
    return limits


@torch.inference_mode()
def _logits(model: Model, images: Tensor) -> Tensor:
    return torch.cat([model.networks.critic(part) for part in images.split(8)]).cpu()


@torch.inference_mode()
def _strangeness(density: FeatureDensity, images: Tensor) -> Tensor:
    """Mean distance of a scan's local features from the usual ones, shape (N,)."""
    found = [density.distance(coarse_features(part)).flatten(1).mean(1) for part in images.split(8)]
    return torch.cat(found).cpu()


def _appearance_limit(
    filters: Filters, halves: tuple[Tensor, Tensor], candidates: Tensor, margin: float
) -> None:
    """Densities of either half of the training scans, and how strange the other half is to them.

    Where candidates as a whole are stranger than real scans, no choice among them mends that: only
    the outliers among them are dropped then, and a warning says so.
    """
    images = filters.references
    found, densities = [], []
    with torch.inference_mode():
        for mine, others in (halves, halves[::-1]):
            features = (coarse_features(part) for part in images[mine].split(8))
            densities.append(FeatureDensity.fit(features).to(images.device))
            found.append(_strangeness(densities[-1], images[others]))
    filters.densities = tuple(densities)
    real = float(torch.cat(found).quantile(0.99)) * (1 + margin)
    drawn = torch.stack([_strangeness(density, candidates) for density in densities]).mean(dim=0)
    middle = float(drawn.quantile(0.5))
    filters.facts["appearance_of_real_scans"] = round(real, 4)
    filters.facts["appearance_of_the_median_candidate"] = round(middle, 4)
    limit = real
    if middle > real:
        _, limit = outlier_bounds(drawn.double(), OUTLIER)
        log.warning("most candidates have stranger textures (%.2f) than real scans (up to %.2f): "
                    "train for longer; only outliers are dropped", middle, real)  # fmt: skip
    filters.limits["appearance"] = Bounds(0.0, limit)


def _consistency_limit(
    filters: Filters,
    images: Tensor,
    classes: Tensor,
    settings: AugmentConfig,
    seed: int,
    kept: Sequence[nn.Module],
) -> None:
    """Segmenters trained on either half, and the Dice that they reach on the other."""
    labels = len(filters.model.preprocessing.labels)
    classes = classes.to(images.device)
    order = torch.from_numpy(np.random.default_rng([seed, 8]).permutation(len(images)))
    halves = (order[: len(order) // 2], order[len(order) // 2 :])
    networks, dice = list(kept), []
    for number, (mine, others) in enumerate((halves, halves[::-1])):
        if len(networks) <= number:
            log.info("training segmenter %d of 2", number + 1)
            networks.append(
                train_segmenter(
                    images[mine], classes[mine], labels, settings.segmenter_steps, seed + number
                )
            )
        found = segment(networks[number], images[others])
        dice.append(dice_by_volume(found, classes[others], labels))
    reached = torch.cat(dice)
    filters.segmenters = tuple(networks)
    filters.limits["consistency"] = Bounds(float(reached.quantile(settings.consistency / 100)), 1.0)
    filters.facts["dice_of_held_out_real_scans"] = round(float(reached.mean()), 4)


def _privacy_limit(
    filters: Filters, held_out: RealScans | None, subjects: Sequence[str], percentile: float
) -> None:
    """How alike scans are to training scans of other people: training and held-out ones.

    Held-out scans alone are too few: of 40 hippocampi, the closest was less like any training scan
    than every fifth of 40 others.
    """
    references = filters.references
    among = similarity(references, references)
    names = np.array(subjects)
    same = torch.from_numpy(names[:, None] == names[None])
    nearest = among.masked_fill(same.to(among.device), -1.0).amax(dim=1)
    if held_out is not None:
        others = similarity(held_out.images.to(references.device), references).amax(dim=1)
        nearest = torch.cat([nearest, others])
    limit = float(nearest.double().quantile(percentile / 100))
    filters.limits["similarity"] = Bounds(-1.0, limit)
    filters.facts["privacy_scans"] = len(nearest)
