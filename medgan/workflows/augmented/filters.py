"""Filters of generated candidates.

The check of a candidate does not depend on other candidates. Candidates can therefore be generated
in any order and on several machines.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import coarse_features
from medgan.core.volume import AIR
from medgan.data.intensities import synthetic_scale
from medgan.data.prepared import stored
from medgan.evaluation.privacy.copies import similarity
from medgan.evaluation.probes.plausibility import (
    dice_by_volume,
    foreground_volumes,
    label_volumes,
)
from medgan.evaluation.probes.segmentation import segment
from medgan.model.model import Model
from medgan.model.outputs import Synthetic


class Bounds(NamedTuple):
    """Lowest and highest allowed value of a metric."""

    low: float
    high: float


class CandidateCheck(NamedTuple):
    """Metrics of a candidate and the filter that it fails.

    Attributes:
        metrics: by name.
        failed: name of the first filter that it fails, or empty.
    """

    metrics: dict[str, float]
    failed: str


@dataclass
class Filters:
    """Networks, densities and limits that check candidates.

    Attributes:
        model: that generates the candidates.
        references: real training scans, (M, 1, X, Y, Z).
        limits: bounds by the name of a metric; a metric without bounds is not checked.
        densities: of local features of each half of the training scans.
        segmenters: trained on each half of the labelled training scans.
        facts: numbers behind the limits, for the provenance.
    """

    model: Model
    references: Tensor
    limits: dict[str, Bounds] = field(default_factory=dict)
    densities: tuple[FeatureDensity, ...] = ()
    segmenters: tuple[nn.Module, ...] = ()
    facts: dict[str, float | int | str] = field(default_factory=dict)

    def check(self, scan: Synthetic) -> CandidateCheck:
        """Measures a candidate and compares it with the limits."""
        image = self.as_volume(scan)
        classes = None
        if scan.label is not None:
            classes = as_classes(
                torch.from_numpy(scan.label.data.astype(np.int64))[None],
                self.model.preprocessing.labels,
            )
        return self.check_volume(image, classes)

    def check_volume(self, image: Tensor, classes: Tensor | None) -> CandidateCheck:
        """The same for an image (1, 1, X, Y, Z) in [-1, 1] and classes (1, X, Y, Z) or None.

        The slowest metrics come last. A failed candidate is not measured further.
        """
        metrics: dict[str, float] = {}
        for measure in (self._volumes, self._appearance, self._labels, self._nearest):
            found = measure(image, classes)
            metrics |= {name: round(value, 5) for name, value in found.items()}
            for name in found:
                low, high = self.limits.get(name, Bounds(-math.inf, math.inf))
                if not low <= found[name] <= high:
                    return CandidateCheck(metrics, _filter_of(name))
        return CandidateCheck(metrics, "")

    def as_volume(self, scan: Synthetic) -> Tensor:
        """The image of a candidate as read from its file, (1, 1, X, Y, Z) in [-1, 1]."""
        data = torch.from_numpy(scan.image.data.astype(np.float32))
        scale = synthetic_scale(self.model.preprocessing, self.model.preprocessing.channels[0])
        return stored(scale(data))[None, None].to(self.model.device)

    def _volumes(self, image: Tensor, classes: Tensor | None) -> dict[str, float]:
        labels, voxel = self.model.preprocessing.labels, math.prod(self.model.preprocessing.spacing)
        metrics = {"foreground_mm3": float(foreground_volumes(image, AIR, voxel))}
        if classes is not None:
            volumes = label_volumes(classes, len(labels), voxel)[0].tolist()
            metrics |= {f"label_{v}_mm3": mm3 for v, mm3 in zip(labels, volumes, strict=True)}
        return metrics

    def _appearance(self, image: Tensor, classes: Tensor | None) -> dict[str, float]:
        metrics = {}
        if "appearance" in self.limits:
            values = [float(atypicality(density, image)) for density in self.densities]
            metrics["appearance"] = float(np.mean(values))
        if "realism" in self.limits:
            metrics["realism"] = float(logits_of(self.model, image))
        return metrics

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


def _filter_of(metric: str) -> str:
    """The name of the filter that uses a metric."""
    return {"similarity": "privacy"}.get(metric, "volumes" if metric.endswith("_mm3") else metric)


def as_classes(label_maps: Tensor, labels: Sequence[int]) -> Tensor:
    """Label values as classes from 1; other values as background."""
    classes = torch.zeros_like(label_maps, dtype=torch.long)
    for number, value in enumerate(labels, start=1):
        classes[label_maps == value] = number
    return classes


@torch.inference_mode()
def logits_of(model: Model, images: Tensor) -> Tensor:
    """Logits of the discriminator, shape (N,)."""
    return torch.cat([model.networks.critic(part) for part in images.split(8)]).cpu()


@torch.inference_mode()
def atypicality(density: FeatureDensity, images: Tensor) -> Tensor:
    """Mean distance of each scan's local features from a density, shape (N,)."""
    found = [density.distance(coarse_features(part)).flatten(1).mean(1) for part in images.split(8)]
    return torch.cat(found).cpu()
