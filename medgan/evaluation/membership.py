"""Can those who were trained on be told from those who were not, with the model or without it?"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from medgan.evaluation.privacy import other_people
from medgan.evaluation.two_sample import auroc
from medgan.metrics import band_features

_FOLDS, _REPEATS = 5, 5
_DRAWS = 50


class Attack(NamedTuple):
    """How well scores tell members from others.

    Attributes:
        auroc: probability that a member scores above another person; 0.5 is by chance.
        low, high: its interval.
        found: share of members found where 10% of the others are taken for members.
    """

    auroc: float
    low: float
    high: float
    found: float

    @property
    def tells(self) -> bool:
        """Whether the interval excludes chance."""
        return not self.low <= 0.5 <= self.high


def attack(
    members: Float[Tensor, " N"], others: Float[Tensor, " M"], level: float = 0.95
) -> Attack:
    """AUROC with an interval, and the members found at 10% false accusations.

    Args:
        members: one score a person who was trained on, higher for more likely so.
        others: one a person who was not.
        level: of the interval; for the best of several attacks, 1 - 0.05 divided by their number.
    """
    value = auroc(members, others)
    low, high = auroc_interval(value, len(members), len(others), level)
    above = float(others.sort(descending=True).values[int(0.1 * len(others))])
    return Attack(value, low, high, float((members > above).float().mean()))


def auroc_interval(
    value: float, members: int, others: int, level: float = 0.95
) -> tuple[float, float]:
    """The interval of an AUROC, for few people and for values of 0 and 1 too.

    All values that the observed one does not contradict, by the variance that they would give it;
    resampling gives no interval at all where the sets are told apart perfectly.

    Args:
        value: the AUROC.
        members: people of one kind.
        others: of the other.
        level: of the interval.

    Reference: Newcombe 2006, Statistics in Medicine 25, 559-573, method 5.
    """
    z = float(norm.ppf((1 + level) / 2))

    def beyond(truth: float) -> float:
        half = (members + others) / 2 - 1
        clusters = half * ((1 - truth) / (2 - truth) + truth / (1 + truth))
        return z * math.sqrt(truth * (1 - truth) * (1 + clusters) / (members * others))

    def edge(sign: int) -> float:
        end = (1 + sign) / 2
        if abs(value - end) < 1e-6:
            return end
        inner = value + sign * 1e-6
        root = brentq(lambda t: sign * (t - value) - beyond(t), inner, end)
        return float(root)  # pyright: ignore[reportArgumentType]

    return edge(-1), edge(1)


def half_width(members: int, others: int, level: float = 0.95) -> float:
    """Half the interval of an AUROC of 0.5: about what an attack has to reach to be noticed."""
    low, high = auroc_interval(0.5, members, others, level)
    return (high - low) / 2


def by_person(scores: Float[Tensor, " N"], person: Int[Tensor, " N"]) -> Float[Tensor, " P"]:
    """The mean of each person's scores, in the order of their numbers: people are independent."""
    return torch.stack([scores[person == one].mean() for one in person.unique()])


def outside(to_fakes: Float[Tensor, "N M"]) -> dict[str, Float[Tensor, " N"]]:
    """What a thief of synthetic scans alone would score a record by.

    Args:
        to_fakes: similarity of each record to every synthetic scan.

    Returns:
        `nearest`, similarity to the nearest one; `nearest beyond usual`, that less the median
        similarity, as a typical record is like all of them.

    Reference: Hayes et al. 2019, arXiv 1705.07663, and Chen et al. 2020, arXiv 1909.03935,
        section 5.2 (attacks on generated samples alone).
    """
    nearest = to_fakes.max(dim=1).values
    return {"nearest": nearest, "nearest beyond usual": nearest - to_fakes.median(dim=1).values}


def told_by_features(
    members: Float[Tensor, "N 1 X Y Z"],
    others: Float[Tensor, "M 1 X Y Z"],
    person: Int[Tensor, " R"],
    seed: int = 0,
) -> Float[Tensor, " R"]:
    """How much each scan looks like a member's, to a classifier that never saw a model.

    Scores of scans that were left out, from logistic regression on `band_features`; where these
    tell members from others, the two sets differ, and so will an attack's scores.

    Args:
        members: trained on, intensities in [-1, 1].
        others: not trained on.
        person: number of each scan's person, members first; nobody is on both sides of a fold.
        seed: of the folds.

    Returns:
        Log-odds, members first, the mean over several ways to fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = torch.cat([band_features(part) for v in (members, others) for part in v.split(16)])
    truth = np.arange(len(features)) < len(members)
    judge = make_pipeline(
        StandardScaler(), LogisticRegression(C=1e-2, class_weight="balanced", max_iter=1000)
    )
    odds = [
        cross_val_predict(
            judge, features.numpy(), truth, groups=person.numpy(), method="decision_function",
            cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed + repeat),
        )
        for repeat in range(_REPEATS)
    ]  # fmt: skip
    return torch.from_numpy(np.stack(odds).mean(axis=0)).float()  # pyright: ignore


def told_by_neighbours(
    similarities: Float[Tensor, "R R"], members: int, person: Int[Tensor, " R"], seed: int = 0
) -> Float[Tensor, " R"]:
    """How much nearer each scan is to members than to others, itself left out.

    Of both sides equally many people are drawn, several times; without groups such as sites in
    only one of the sets, no scan is nearer to its own.

    Args:
        similarities: of all scans to each other, members first.
        members: how many of them are.
        person: number of each scan's person.
        seed: of the draws.
    """
    random, sides = torch.Generator().manual_seed(seed), torch.arange(len(person)) < members
    known = other_people(similarities, person, person)
    few = min(len(person[sides].unique()), len(person[~sides].unique())) - 1
    margins = torch.zeros(_DRAWS, len(person))
    for row in range(len(person)):
        for draw in range(_DRAWS):
            ends = []
            for side in (sides, ~sides):
                rest = person[side & (person != person[row])].unique()
                kept = rest[torch.randperm(len(rest), generator=random)[:few]]
                ends.append(known[row, side & torch.isin(person, kept)].max())
            margins[draw, row] = ends[0] - ends[1]
    return margins.mean(dim=0)
