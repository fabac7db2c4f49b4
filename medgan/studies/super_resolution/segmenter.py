"""A segmenter of fine scans, which says whether restored ones are still segmented as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medgan.core.config import Preprocessing
from medgan.data.batches import PreparedVolumes
from medgan.data.manifest import Case
from medgan.data.patches import patch_about
from medgan.evaluation.probes.segmentation import dice_of_scans, segment, train_segmenter

STEPS = 400
FEWEST = 8
"""Labelled training scans below which there is no segmenter."""


@dataclass(frozen=True)
class Segmenter:
    """A U-Net that learned the labels of fine training scans.

    Attributes:
        network: of scans about their centre.
        shape: that it sees of them, about as large as most scans.
        labels: values of the label maps.
    """

    network: nn.Module
    shape: tuple[int, int, int]
    labels: tuple[int, ...]

    @classmethod
    def trained(
        cls, cases: Sequence[Case], preprocessing: Preprocessing, out: Path
    ) -> "Segmenter | None":
        """Trained on the labelled ones of some scans; None where there are too few."""
        cases = [case for case in cases if case.label]
        if not preprocessing.labels or len(cases) < FEWEST:
            return None
        volumes = PreparedVolumes(cases, preprocessing, out / "cache")
        volumes.warm()
        pairs = [volumes.arrays(number) for number in range(len(volumes))]
        extent = np.median([image.shape[1:] for image, _ in pairs], axis=0)
        x, y, z = (max(16, int(n) // 16 * 16) for n in extent)
        empty = cls(nn.Identity(), (x, y, z), preprocessing.labels)
        shown = [empty._centred(image[0], label) for image, label in pairs]
        images, classes = (torch.stack(part) for part in zip(*shown, strict=True))
        network = train_segmenter(
            images, classes, len(preprocessing.labels), STEPS, seed=0, bf16=False
        )
        return cls(network, (x, y, z), preprocessing.labels)

    def dice(self, image: np.ndarray, label: np.ndarray | None) -> float:
        """Mean over labels of the Dice of a scan, (X, Y, Z) in [-1, 1]; NaN without a label map."""
        if label is None:
            return float("nan")
        shown, truth = self._centred(image, label)
        found = dice_of_scans(segment(self.network, shown[None]), truth[None], len(self.labels))
        return float(found.nanmean())

    def _centred(
        self, image: np.ndarray, label: np.ndarray | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (1, X, Y, Z) and classes (X, Y, Z) about the centre, air beyond the scan."""
        middle = np.array(image.shape) // 2
        found, values = patch_about(image[None].astype(np.float32), label, middle, self.shape)
        assert values is not None
        classes = np.zeros(values.shape, np.int64)
        for number, value in enumerate(self.labels, start=1):
            classes[values == value] = number
        return torch.from_numpy(np.nan_to_num(found, nan=-1.0)), torch.from_numpy(classes)
