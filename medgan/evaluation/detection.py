"""How well scores find scans with lesions, and maps the lesions in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

MOST_FALSE = 0.05
"""Share of healthy voxels up to which `region_overlap` looks."""
Map = Float[np.ndarray, "X Y Z"]
Mask = Bool[np.ndarray, "X Y Z"]


def auroc(healthy: Sequence[float], lesioned: Sequence[float]) -> float:
    """Chance that a scan with a lesion scores above a healthy one; ties count half."""
    truth = [0] * len(healthy) + [1] * len(lesioned)
    return float(roc_auc_score(truth, [*healthy, *lesioned]))


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
    return int(ndimage.label(found, np.ones((3, 3, 3)))[1])


def hit(found: Mask, truth: Mask) -> bool:
    """Whether anything found lies in the lesion."""
    return bool((found & truth).any())


@dataclass(frozen=True)
class Froc:
    """Share of lesions found against false parts a healthy scan.

    Attributes:
        false_parts: mean number a healthy scan, rising.
        sensitivity: share of lesions with at least one voxel found, at each.
    """

    false_parts: tuple[float, ...]
    sensitivity: tuple[float, ...]

    def at(self, false_parts: float) -> float:
        """Highest sensitivity with at most so many false parts a scan."""
        pairs = zip(self.false_parts, self.sensitivity, strict=True)
        return max((s for f, s in pairs if f <= false_parts), default=0.0)

    @property
    def mean(self) -> float:
        """Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false parts, as LUNA16 has it."""
        return float(np.mean([self.at(2.0**power) for power in range(-3, 4)]))


def froc(healthy: Sequence[Map], peaks: Sequence[float], points: int = 40) -> Froc:
    """Free-response curve over thresholds from the healthy maps.

    Args:
        healthy: maps of healthy scans, at least one.
        peaks: of each lesion the highest value of its map inside.
        points: thresholds, from the highest healthy voxel down to their 95th percentile, closer
            to each other towards the top.

    Reference: Setio et al. 2017, LUNA16, Medical Image Analysis 42, section 3.3.
    """
    shares = np.concatenate([[0], np.geomspace(1e-6, 0.05, points - 1)])
    thresholds = np.quantile(np.concatenate([m.ravel() for m in healthy]), 1 - shares)
    return Froc(
        tuple(float(np.mean([components(m > t) for m in healthy])) for t in thresholds),
        tuple(float((np.asarray(peaks) > t).mean()) for t in thresholds),
    )


@dataclass(frozen=True)
class Interval:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float


def false_alarm_interval(alarms: int, scans: int) -> Interval:
    """Share of healthy scans called abnormal, with its exact binomial interval.

    Reference: Clopper and Pearson 1934, Biometrika 26.
    """
    interval = binomtest(alarms, scans).proportion_ci(0.95, method="exact")
    return Interval(alarms / scans, float(interval.low), float(interval.high))


def by_subject(
    subjects: Sequence[str],
    statistic: Callable[[np.ndarray], float],
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """A statistic of rows with an interval from drawing whole subjects again.

    Rows of one subject, its scans and all lesions planted into them, are not independent; drawing
    rows would make intervals too narrow.

    Args:
        subjects: of every row.
        statistic: of the numbers of the rows that were drawn, repeats included.
        draws: how often subjects are drawn.
        seed: of the draws.

    Reference: Field and Welsh 2007, Bootstrapping clustered data, JRSS B 69.
    """
    names, which = np.unique(np.asarray(subjects), return_inverse=True)
    rows = [np.flatnonzero(which == number) for number in range(len(names))]
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))]))
        for _ in range(draws)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(statistic(np.arange(len(which))), float(low), float(high))
