"""Is one way of training better than another, on the same subjects and the same draws?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Difference(NamedTuple):
    """A figure of the second way minus that of the first.

    Attributes:
        value: the difference.
        low, high: its 95% interval.
        p_value: of the hypothesis that there is none, by the same variance: below 0.05 where the
            interval leaves 0 out.
    """

    value: float
    low: float
    high: float
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

    Both what was trained on (with the seed of the training) and who is tested are a sample. How
    trainings differ is read from their differences, how subjects do by drawing them again; the two
    variances are added. The quantile is Student's with the degrees of freedom that go with them:
    few where trainings differ and there are three of them. In simulations with three and five
    trainings it covered the truth 91 to 94 times in 100. From one training, only subjects are taken
    to differ.

    Args:
        first: what the first way found: trainings, test subjects, figures of each subject.
        second: the same trainings and subjects.
        statistic: of the figures of all subjects of one training, such as their mean.
        draws: of subjects.
        seed: of the draws.

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
    return Difference(value, value - half, value + half, p_value)
