"""Detection of lesions by scores of scans, and their localisation by maps."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from skimage import measure
from sklearn.metrics import average_precision_score

MOST_FALSE = 0.05
"""Largest share of healthy voxels above a threshold in `region_overlap`."""
Map = Float[np.ndarray, "X Y Z"]
Mask = Bool[np.ndarray, "X Y Z"]


def voxel_average_precision(score_map: Map, truth: Mask, within: Mask) -> float:
    """Average precision over voxels; at chance it is the share of lesion voxels.

    Args:
        score_map: higher is more abnormal.
        truth: the lesion.
        within: voxels that are evaluated, such as the foreground.
    """
    return float(average_precision_score(truth[within], score_map[within]))


def dice(found: Mask, truth: Mask) -> float:
    """Twice the overlap over the sum of both; 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def few_false_voxels(
    healthy: np.ndarray, most: float = MOST_FALSE, points: int = 50
) -> Float[np.ndarray, " T"]:
    """Falling thresholds; the shares of healthy voxels above them are equally spaced.

    Args:
        healthy: voxels of healthy scans' maps, any shape.
        most: largest share of healthy voxels above a threshold; the smallest is none.
        points: thresholds.
    """
    return np.quantile(healthy, 1 - np.linspace(0, most, points))


def region_overlap(score_map: Map, truth: Mask, thresholds: Float[np.ndarray, " T"]) -> float:
    """Mean share of a lesion above thresholds with few false-positive voxels.

    Thresholds come from healthy voxels and are the same for all scans. 1 is perfect; at chance it
    is half of the largest share of false-positive voxels.

    Args:
        score_map: of the scan with the lesion.
        truth: the lesion, one region.
        thresholds: of `few_false_voxels`.

    Reference: Bergmann et al. 2021, The MVTec anomaly detection dataset, IJCV 129, section 4.2
        (PRO), with thresholds from healthy scans and one region a scan.
    """
    inside = np.sort(score_map[truth])
    above = 1 - np.searchsorted(inside, thresholds, side="right") / max(len(inside), 1)
    return float(np.trapezoid(above) / (len(thresholds) - 1))


def components(found: Mask) -> int:
    """Number of connected components (26-connectivity)."""
    return int(np.asarray(measure.label(found, connectivity=3)).max())


FALSE_PARTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per healthy scan at which LUNA16 averages the sensitivity."""


def few_false_parts(healthy: Sequence[Map], points: int = 40) -> Float[np.ndarray, " R"]:
    """The lowest thresholds with at most `FALSE_PARTS` false positives per healthy scan.

    A lesion is found when one of its voxels is above the threshold. The mean sensitivity over these
    thresholds is the metric of the free-response curve (FROC).

    Args:
        healthy: maps of healthy scans, at least one.
        points: thresholds tried, from the highest healthy voxel down to their 95th percentile,
            closer to each other towards the top.

    Reference: Setio et al. 2017, LUNA16, Medical Image Analysis 42, section 3.3.
    """
    shares = np.concatenate([[0], np.geomspace(1e-6, 0.05, points - 1)])
    tried = np.quantile(np.concatenate([m.ravel() for m in healthy]), 1 - shares)
    parts = np.array([np.mean([components(m > t) for m in healthy]) for t in tried])
    allowed = [np.flatnonzero(np.maximum.accumulate(parts) <= most) for most in FALSE_PARTS]
    return np.array([tried[numbers[-1]] for numbers in allowed])
