"""A metric with its 95% interval, and the ways to find one."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

FEWEST_SUBJECTS = 5
"""With fewer, single values say more than an interval."""


class Interval(NamedTuple):
    """A metric and its interval.

    Attributes:
        value: the metric.
        low, high: ends of the interval, 95% unless another level was asked for.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of_resamples(
        cls, value: float, resamples: Float[np.ndarray, " D"], level: float = 0.95
    ) -> "Interval":
        """From the quantiles of a metric over resamples."""
        low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2])
        return cls(float(value), float(low), float(high))

    def rounded(self, digits: int = 4) -> dict[str, float]:
        """For a table or a JSON file."""
        return {name: round(number, digits) for name, number in self._asdict().items()}


def proportion(count: int, total: int, level: float = 0.95) -> Interval:
    """A share of independent cases with its exact binomial interval.

    Reference: Clopper and Pearson 1934, Biometrika 26.
    """
    from scipy.stats import binomtest  # a second, which scoring does not need

    found = binomtest(count, total).proportion_ci(level, method="exact")
    return Interval(count / total, float(found.low), float(found.high))


def by_subject(
    pairs: Float[np.ndarray, "F N N"] | Float[np.ndarray, " N"],
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """A mean with a bootstrap interval over subjects.

    The scan of a subject and all lesions in it are not independent: resampling rows instead of
    subjects would make the interval too narrow.

    Args:
        pairs: one value per subject; or, for each family, one for each pair of a subject with a
            lesion and a healthy one, resampled together. NaN where there is no such pair: a subject
            without such a lesion, or a subject and itself.
        draws: number of resamples.
        seed: of the resamples. Metrics of the same subjects and seed are resampled alike, so that
            the difference of two scorers' values gives the interval of their difference.

    Reference: Field and Welsh 2007, Bootstrapping clustered data, JRSS B 69.
    """
    count = pairs.shape[-1]
    drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=draws) / count
    known = ~np.isnan(pairs)
    rows = known if pairs.ndim == 1 else known.any(axis=(0, 2))  # subjects with a lesion
    drawn = drawn[drawn[:, rows].any(axis=1)]
    lesioned = drawn[:, rows] / drawn[:, rows].sum(axis=1, keepdims=True)
    if pairs.ndim == 1:
        value, values = pairs[rows].mean(), lesioned @ pairs[rows]
    else:
        counted = known[:, rows].any(axis=0)
        totals = np.where(known[:, rows], pairs[:, rows], 0).sum(axis=0)
        matrix = totals / np.maximum(known[:, rows].sum(axis=0), 1)
        weights = np.einsum("di,ij,dj->d", lesioned, counted, drawn)
        values = np.einsum("di,ij,dj->d", lesioned, matrix, drawn)[weights > 0]
        value, values = matrix[counted].mean(), values / weights[weights > 0]
    return Interval.of_resamples(value, values)


def median_of_subjects(
    values: Float[np.ndarray, " N"], draws: int = 1000, seed: int = 0
) -> Interval | None:
    """A median with a bootstrap interval over subjects.

    Args:
        values: one a subject; NaN where there is none.
        draws: number of resamples.
        seed: of the resamples.

    Returns:
        None without any value; ends that are not a number below `FEWEST_SUBJECTS`.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    if len(known) < FEWEST_SUBJECTS:
        return Interval(float(np.median(known)), np.nan, np.nan)
    drawn = np.random.default_rng(seed).integers(0, len(known), (draws, len(known)))
    return Interval.of_resamples(float(np.median(known)), np.median(known[drawn], axis=1))


class Difference(NamedTuple):
    """A metric of the second method minus that of the first.

    Attributes:
        interval: the difference with its 95% interval.
        p_value: of no difference, by the same variance: below 0.05 where the interval excludes 0.
    """

    interval: Interval
    p_value: float


Statistic = Callable[[Float[np.ndarray, "N K"]], float]


def paired_difference(
    first: Float[np.ndarray, "D N K"],
    second: Float[np.ndarray, "D N K"],
    statistic: Statistic,
    draws: int = 1000,
    seed: int = 0,
) -> Difference:
    """The mean over trainings of a statistic of test subjects: second minus first.

    Training sets (with their seeds) and test subjects are both samples. The variance between
    trainings is estimated from their differences, that between subjects by a bootstrap; the two are
    added. The quantile is Student's with Satterthwaite's degrees of freedom. In simulations with
    three and five trainings the interval covered the truth 91 to 94 times in 100. With one training
    only the subjects vary.

    Args:
        first: results of the first method: trainings, test subjects, metrics of each subject.
        second: the same trainings and subjects.
        statistic: of the metrics of all subjects of one training, such as their mean.
        draws: number of resamples of the subjects.
        seed: of the resamples.

    Reference: Satterthwaite 1946, An approximate distribution of estimates of variance components;
        Owen 2007, arXiv 0712.1111 (samples of two crossed kinds).
    """
    from scipy.stats import t

    random = np.random.default_rng(seed)
    trainings, subjects = first.shape[:2]

    def differences(who: np.ndarray) -> list[float]:
        return [statistic(b[who]) - statistic(a[who]) for a, b in zip(first, second, strict=True)]

    found = differences(np.arange(subjects))
    value = float(np.mean(found))
    by_training = np.var(found, ddof=1) / trainings if trainings > 1 else 0.0
    drawn = (differences(random.integers(0, subjects, subjects)) for _ in range(draws))
    by_subject = float(np.nanvar([np.mean(part) for part in drawn])) if subjects > 1 else 0.0
    variance = by_training + by_subject
    half, p_value = 0.0, float(value == 0)
    if variance > 0:
        parts = by_training**2 / max(trainings - 1, 1) + by_subject**2 / max(subjects - 1, 1)
        freedom = variance**2 / parts
        half = float(t.ppf(0.975, freedom) * variance**0.5)
        p_value = float(2 * t.sf(abs(value) / variance**0.5, freedom))
    return Difference(Interval(value, value - half, value + half), p_value)
