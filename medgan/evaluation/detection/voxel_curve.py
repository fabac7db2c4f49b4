"""Voxels of a lesion and of healthy tissue above every threshold of a map, and metrics of these."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class VoxelCurve(NamedTuple):
    """What lies at or above each threshold.

    Attributes:
        thresholds: falling, every value of the map once.
        true: lesion voxels at or above each.
        false: other voxels at or above each.
    """

    thresholds: Float[np.ndarray, " T"]
    true: Int[np.ndarray, " T"]
    false: Int[np.ndarray, " T"]

    @property
    def prevalence(self) -> float:
        """Share of lesion, the average precision by chance."""
        return float(self.true[-1] / (self.true[-1] + self.false[-1]))

    @property
    def auroc(self) -> float:
        """Area under the receiver operating characteristic over voxels."""
        sensitivity = np.r_[0, self.true / self.true[-1]]
        false_rate = np.r_[0, self.false / self.false[-1]]
        return float(np.trapezoid(sensitivity, false_rate))

    @property
    def average_precision(self) -> float:
        """Mean precision, weighted by the steps of sensitivity."""
        precision = self.true / (self.true + self.false)
        return float((np.diff(self.true, prepend=0) * precision).sum() / self.true[-1])

    @property
    def best_dice(self) -> tuple[float, float]:
        """The highest Dice of all thresholds, and that threshold, which the truth has chosen."""
        dice = 2 * self.true / (self.true + self.false + self.true[-1])
        best = int(dice.argmax())
        return float(dice[best]), float(self.thresholds[best])


def voxel_curve(
    score_map: Float[np.ndarray, "X Y Z"],
    truth: Bool[np.ndarray, "X Y Z"],
    within: Bool[np.ndarray, "X Y Z"],
) -> VoxelCurve:
    """Counts voxels of a lesion and of other tissue above every threshold.

    Args:
        score_map: higher is more abnormal.
        truth: the lesion, at least one voxel of it and not all inside.
        within: voxels that are evaluated.
    """
    values, lesion = score_map[within], truth[within]
    order = np.argsort(-values, kind="stable")
    values, lesion = values[order], lesion[order]
    last = np.r_[np.flatnonzero(np.diff(values)), len(values) - 1]  # of equal values
    true = np.cumsum(lesion)[last]
    return VoxelCurve(values[last], true, 1 + last - true)
