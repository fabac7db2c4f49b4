"""Segmentation as a task of a utility study."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.config import Preprocessing, UtilityConfig
from medgan.core.errors import DataError
from medgan.data.conditions import Value
from medgan.data.manifest import Case
from medgan.data.prepared import read_scans
from medgan.evaluation.probes.segmentation import (
    dice_of_scans,
    hausdorff95,
    segment,
    train_segmenter,
)
from medgan.studies.utility.task import Arm, Examples, Metric, augmentation, join, random_cases

_LARGE = 32
"""Voxels along the shortest axis from which a U-Net for lesions is trained in bf16."""


class Segmentation:
    """A U-Net is trained to segment.

    Args:
        cases: of the training split; only those with label maps are used.
        preprocessing: the grid and the labels.
        settings: the utility section.

    Raises:
        DataError: E_LABEL when no training scan has a label map.
    """

    def __init__(
        self, cases: Sequence[Case], preprocessing: Preprocessing, settings: UtilityConfig
    ) -> None:
        self._cases = [case for case in cases if case.label]
        if not self._cases or not preprocessing.labels:
            raise DataError(
                "E_LABEL", "the training split", "no scan has a label map",
                "give label maps, or set utility.task=classification",
            )  # fmt: skip
        self._preprocessing, self._settings = preprocessing, settings
        count = self._count = len(preprocessing.labels)

        def mean(first: int, last: int) -> Metric:
            return Metric(lambda rows: float(np.nanmean(rows[:, first:last])), better=last <= count)

        by_label = {
            f"Dice {value}": mean(number, number + 1)
            for number, value in enumerate(preprocessing.labels)
        }
        self.metrics: Mapping[str, Metric] = {
            "Dice": mean(0, count),
            **(by_label if count > 1 else {}),
            "HD95 (mm)": mean(count, 2 * count),
        }

    def sample(self, size: int, seed: int) -> list[Case]:
        """As `Task.sample`."""
        return random_cases(self._cases, size, seed, "labelled training scans")

    def requests(self, cases: Sequence[Case], ratio: float, seed: int) -> list[dict[str, Value]]:
        """As many as the ratio says, without conditions."""
        return [{} for _ in range(round(ratio * len(cases)))]

    def real(self, cases: Sequence[Case], out: Path) -> Examples:
        """As `Task.real`."""
        labelled = [case for case in cases if case.label]
        if not labelled:
            raise DataError(
                "E_LABEL", "the test split", "no scan has a label map", "give label maps"
            )
        scans = read_scans(labelled, self._preprocessing, out)
        return Examples(scans.images, self._classes(scans.label_maps))

    def synthetic(
        self, images: Tensor, label_maps: Tensor | None, requests: Sequence[Mapping[str, Value]]
    ) -> Examples:
        """As `Task.synthetic`."""
        assert label_maps is not None, "a generator trained on label maps makes them"
        return Examples(images, self._classes(label_maps))

    def _classes(self, label_maps: Tensor) -> Tensor:
        classes = torch.zeros_like(label_maps, dtype=torch.long)
        for number, value in enumerate(self._preprocessing.labels, start=1):
            classes[label_maps == value] = number
        return classes

    def train(self, parts: Sequence[Examples], arm: Arm, seed: int) -> nn.Module:
        """As `Task.train`."""
        evenly = arm.drawn or arm.healthy
        stages = [parts[-1:], parts[:1]] if arm.first else [parts]
        steps, network = self._settings.steps // len(stages), None
        for stage in stages:
            images, classes = join(stage)
            large = min(images.shape[2:]) >= _LARGE
            network = train_segmenter(
                images, classes, self._count, steps, seed, augment=augmentation(arm),
                network=network, bf16=self._settings.task == "segmentation" or large,
                among=_evenly([len(part.images) for part in stage]) if evenly else None,
            )  # fmt: skip
        assert network is not None, "there is a set to train on"
        return network

    def predict(self, network: nn.Module, images: Tensor) -> Tensor:
        """Classes (N, X, Y, Z)."""
        return segment(network, images)

    def measure(self, network: nn.Module, test: Examples) -> Float[np.ndarray, "N K"]:
        """As `Task.measure`."""
        return self._values(self.predict(network, test.images), test)

    def _values(self, predicted: Tensor, test: Examples) -> Float[np.ndarray, "N K"]:
        """Dice and distance of every label."""
        dice = dice_of_scans(predicted, test.targets, self._count).cpu()
        distance = hausdorff95(predicted, test.targets, self._count, self._preprocessing.spacing)
        return torch.cat([dice, distance], dim=1).numpy()


def _evenly(sizes: Sequence[int]) -> Tensor:
    """Numbers of the scans of several sets, repeated until all sets are about as large."""
    most, start, numbers = max(sizes), 0, []
    for size in sizes:
        numbers.append(torch.arange(start, start + size, device="cpu").repeat(most // size))
        start += size
    return torch.cat(numbers)
