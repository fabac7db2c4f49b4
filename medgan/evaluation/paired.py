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
        p_value: of Wilcoxon's signed-rank test over subjects, each averaged over the draws; 1
            where nothing differs.
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
    each: Callable[[Float[np.ndarray, "N K"]], Float[np.ndarray, " N"]],
    draws: int = 1000,
    seed: int = 0,
) -> Difference:
    """The mean over trainings of a statistic of test subjects: second minus first.

    Both what was trained on (with the seed of the training) and who is tested are a sample, so
    both are drawn again: trainings and subjects, each with replacement and independently. Its
    interval is a little too wide rather than too narrow. With three trainings it still knows
    little of how trainings differ: show their values beside it.

    Args:
        first: what the first way found: trainings, test subjects, figures of each subject.
        second: the same trainings and subjects.
        statistic: of the figures of all subjects of one training, such as their mean.
        each: one figure a subject, for the test over subjects.
        draws: of the bootstrap.
        seed: of the draws.

    Reference: Owen 2007, arXiv 0712.1111 (pigeonhole bootstrap); Wilcoxon 1945.
    """
    from scipy.stats import wilcoxon

    random = np.random.default_rng(seed)
    trainings, subjects = first.shape[:2]

    def difference(chosen: np.ndarray, who: np.ndarray) -> float:
        return float(
            np.mean([statistic(second[n][who]) - statistic(first[n][who]) for n in chosen])
        )

    value = difference(np.arange(trainings), np.arange(subjects))
    found = [
        difference(random.integers(0, trainings, trainings), random.integers(0, subjects, subjects))
        for _ in range(draws)
    ]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    gaps = np.mean([each(b) - each(a) for a, b in zip(first, second, strict=True)], axis=0)
    p_value = float(wilcoxon(gaps)[1]) if np.any(gaps) else 1.0  # pyright: ignore
    return Difference(value, float(low), float(high), p_value)
