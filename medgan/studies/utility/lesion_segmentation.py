"""Segmentation of lesions as a task of a utility study."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from medgan.core.config import Preprocessing, UtilityConfig
from medgan.data.manifest import Case
from medgan.studies.utility.segmentation import Segmentation
from medgan.studies.utility.task import Examples, Metric, random_cases


class LesionSegmentation(Segmentation):
    """A U-Net is trained to segment lesions; scans with an empty label map are healthy."""

    def __init__(
        self, cases: Sequence[Case], preprocessing: Preprocessing, settings: UtilityConfig
    ) -> None:
        super().__init__(cases, preprocessing, settings)
        self.metrics: Mapping[str, Metric] = {
            **self.metrics,
            "false positives (ml)": Metric(lambda rows: float(rows[:, -1].mean()), better=False),
        }

    def sample(self, size: int, seed: int) -> list[Case]:
        """As `Task.sample`, of the scans with lesions."""
        lesioned = [case for case in self._cases if not is_healthy(case)]
        return random_cases(lesioned, size, seed, "labelled training scans with lesions")

    def _values(self, predicted: Tensor, test: Examples) -> Float[np.ndarray, "N K"]:
        """Dice and distance, of scans with lesions; and what is marked outside of them in ml."""
        found = super()._values(predicted, test)
        outside = test.targets == 0
        found[outside.flatten(1).all(dim=1).cpu().numpy()] = np.nan
        voxels = (outside & (predicted > 0)).flatten(1).sum(dim=1, keepdim=True).double()
        millilitres = voxels * math.prod(self._preprocessing.spacing) / 1000
        return np.concatenate([found, millilitres.cpu().numpy()], axis=1)


def is_healthy(case: Case) -> bool:
    """Whether the label map of a scan is known to be empty."""
    return case.label is not None and not case.labels
