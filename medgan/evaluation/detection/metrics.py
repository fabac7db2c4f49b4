"""How well scores find scans with lesions, and maps the lesions in them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from skimage import measure
from sklearn.metrics import average_precision_score

MOST_FALSE = 0.05
"""Share of healthy voxels up to which `region_overlap` looks."""
Map = Float[np.ndarray, "X Y Z"]
Mask = Bool[np.ndarray, "X Y Z"]


def voxel_average_precision(score_map: Map, truth: Mask, within: Mask) -> float:
    """Average precision of a map's voxels; by chance it is the lesion's share of them.

    Args:
        score_map: higher is stranger.
        truth: the lesion.
        within: voxels that count, such as the foreground.
    """
    return float(average_precision_score(truth[within], score_map[within]))


def dice(found: Mask, truth: Mask) -> float:
    """Twice the overlap over the sum of both; 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def few_false_voxels(
    healthy: np.ndarray, most: float = MOST_FALSE, points: int = 50
) -> Float[np.ndarray, " T"]:
    """Thresholds with equally spaced shares of healthy voxels above them, falling.

    Args:
        healthy: voxels of healthy scans' maps, any shape.
        most: largest share of healthy voxels above a threshold; the smallest is none.
        points: thresholds.
    """
    return np.quantile(healthy, 1 - np.linspace(0, most, points))


def region_overlap(score_map: Map, truth: Mask, thresholds: Float[np.ndarray, " T"]) -> float:
    """Mean share of a lesion above thresholds of few false voxels.

    Thresholds come from healthy voxels, so that they hold for all scans alike. 1 is perfect; by
    chance it is half of the largest share of false voxels.

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
    """Number of parts that touch by face, edge or corner."""
    return int(np.asarray(measure.label(found, connectivity=3)).max())


FALSE_PARTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False parts a healthy scan at which LUNA16 averages the share of lesions found."""


def few_false_parts(healthy: Sequence[Map], points: int = 40) -> Float[np.ndarray, " R"]:
    """The lowest thresholds with at most so many false parts a healthy scan, for `FALSE_PARTS`.

    A lesion counts as found when a voxel of it is above; the mean over these thresholds of the
    share of lesions found is the figure of the free-response curve.

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
