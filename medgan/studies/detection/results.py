"""Results of one scorer in the lesion benchmark, and the metrics computed from them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import ks_2samp

from medgan.anomaly.alarms import is_alarm
from medgan.data.lesions import CONTROL
from medgan.evaluation.interval import Interval, by_subject, proportion

METRICS = ("average_precision", "dice", "region_overlap", "sensitivity")
"""Metrics of a map, one value a lesion."""
RATES = (0.05, 0.1)
"""False-alarm rates in tables."""


class Lesion(NamedTuple):
    """One planted lesion.

    Attributes:
        scan: number of the test scan.
        family: of `FAMILIES`, `CONTROL`, or `SHAPES` (`training.corruption`), shapes of real ones.
        radius: in voxels; of a shape, that of a ball of the same volume.
        contrast: of `STRENGTHS`; empty for a shape.
        shape: number of a real lesion's shape; -1 for a family.
        size: of that shape once it is planted, of `size_of`.
    """

    scan: int
    family: str
    radius: float
    contrast: str
    shape: int = -1
    size: str = ""


@dataclass(frozen=True)
class Results:
    """Scores and map metrics of one scorer on test scans, with and without lesions.

    Attributes:
        lesions: one for each row below.
        above: (L, N), 1 where the scan with the lesion scores above test scan n without a lesion,
            0.5 where both score the same, else 0.
        metrics: (L, 4), `METRICS`: average precision over voxels; Dice at the threshold from the
            calibration scans; `region_overlap`; share of the thresholds of `few_false_parts` at
            which the lesion is found. NaN for controls.
        prevalence: (L,) share of lesion among the voxels, the average precision by chance.
        p_values: (N,) of the test scans without lesions.
        calibration_scans: number of calibration scans behind the p-values.
    """

    lesions: tuple[Lesion, ...]
    above: Float[np.ndarray, "L N"]
    metrics: Float[np.ndarray, "L 4"]
    prevalence: Float[np.ndarray, " L"]
    p_values: Float[np.ndarray, " N"]
    calibration_scans: int

    def select(self, **values: object) -> np.ndarray:
        """Row numbers of the lesions with these values, as family="noise".

        Controls are left out unless asked for.
        """
        rows = [
            all(getattr(lesion, name) == value for name, value in values.items())
            and (lesion.family != CONTROL or values.get("family") == CONTROL)
            for lesion in self.lesions
        ]
        return np.flatnonzero(rows)

    def auroc(self, **values: object) -> Interval:
        """Probability that a scan with a lesion scores above another subject's without one.

        The mean over families. A scan is not compared with itself without its lesion: the
        difference of such a pair is the lesion alone, however much healthy scans differ.
        """
        return by_subject(self._others(self.select(**values)))

    def paired_auroc(self, **values: object) -> Interval:
        """Probability that a scan with a lesion scores above the same scan without it.

        It says whether a score responds to lesions at all. It says nothing about detection, where
        the same scan without the lesion is never at hand.
        """
        rows = self.select(**values)
        return by_subject(self._by_scan(self.own[rows], rows))

    def auroc_difference(self, other: "Results", **values: object) -> Interval:
        """AUROC minus that of another scorer on the same lesions."""
        rows = self.select(**values)
        return by_subject(self._others(rows) - other._others(other.select(**values)))

    def metric(self, name: str, **values: object) -> Interval:
        """Mean of one of `METRICS`."""
        return by_subject(self._means(name, self.select(**values)))

    def metric_difference(self, other: "Results", name: str, **values: object) -> Interval:
        """One of `METRICS` minus that of another scorer on the same lesions."""
        mine = self._means(name, self.select(**values))
        return by_subject(mine - other._means(name, other.select(**values)))

    def false_alarms(self, rate: float) -> Interval:
        """Share of test scans without lesions that raise an alarm."""
        alarms = sum(is_alarm(float(p), rate) for p in self.p_values)
        return proportion(alarms, len(self.p_values))

    def uniformity(self) -> float:
        """P-value of a two-sample Kolmogorov-Smirnov test of test against calibration scans.

        Both are samples: the p-values of the test scans are their ranks among the calibration
        scans.
        """
        ranks = np.arange(1, self.calibration_scans + 1) / (self.calibration_scans + 1)
        with warnings.catch_warnings():
            # Where the exact calculation fails, scipy says so and takes the asymptotic one.
            warnings.simplefilter("ignore", RuntimeWarning)
            return float(ks_2samp(self.p_values, ranks).pvalue)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def own(self) -> Float[np.ndarray, " L"]:
        """`above` for the same scan without the lesion."""
        return self.above[np.arange(len(self.lesions)), self._scans]

    @property
    def others(self) -> Float[np.ndarray, " L"]:
        """Mean of `above` over the other test scans."""
        return (self.above.sum(axis=1) - self.own) / (self.above.shape[1] - 1)

    @property
    def _scans(self) -> np.ndarray:
        return np.array([lesion.scan for lesion in self.lesions])

    def _others(self, rows: np.ndarray) -> Float[np.ndarray, "F N N"]:
        """By family, scan with a lesion and scan without; NaN where there is no such pair."""
        families = np.array([self.lesions[row].family for row in rows])
        count = self.above.shape[1]
        pairs = np.full((len(np.unique(families)), count, count), np.nan)
        for matrix, family in zip(pairs, np.unique(families), strict=True):
            for scan in range(count):
                chosen = rows[(families == family) & (self._scans[rows] == scan)]
                if len(chosen):
                    matrix[scan] = self.above[chosen].mean(axis=0)
            np.fill_diagonal(matrix, np.nan)
        return pairs

    def _means(self, name: str, rows: np.ndarray) -> Float[np.ndarray, " N"]:
        return self._by_scan(self.metrics[rows, METRICS.index(name)], rows)

    def _by_scan(self, values: np.ndarray, rows: np.ndarray) -> Float[np.ndarray, " N"]:
        """Means of rows by scan; NaN for scans without any."""
        scans, count = self._scans[rows], self.above.shape[1]
        return np.array([values[scans == n].mean() if n in scans else np.nan for n in range(count)])


def merge(parts: Sequence[Results]) -> Results:
    """Results of different lesions in the same test scans as one, such as those of folds.

    Args:
        parts: p-values are those of the first.
    """
    return Results(
        tuple(lesion for part in parts for lesion in part.lesions),
        np.concatenate([part.above for part in parts]),
        np.concatenate([part.metrics for part in parts]),
        np.concatenate([part.prevalence for part in parts]),
        parts[0].p_values,
        parts[0].calibration_scans,
    )
