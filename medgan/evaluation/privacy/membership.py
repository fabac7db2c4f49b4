"""Can those who were trained on be told from those who were not, with the model or without it?"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from medgan.evaluation.interval import Interval
from medgan.evaluation.privacy.copies import other_people
from medgan.evaluation.probes.two_sample import auroc

_FOLDS, _REPEATS = 5, 2
_SPARES = 4


class Attack(NamedTuple):
    """How well scores tell members from others.

    Attributes:
        auroc: probability that a member scores above another person; 0.5 is by chance.
        found: share of members found where 10% of the others are taken for members.
    """

    auroc: Interval
    found: float

    def as_json(self) -> dict[str, float]:
        """All numbers on one level."""
        return {
            "auroc": self.auroc.value, "low": self.auroc.low, "high": self.auroc.high,
            "found": self.found,
        }  # fmt: skip

    @property
    def tells(self) -> bool:
        """Whether the interval excludes chance."""
        return not self.auroc.low <= 0.5 <= self.auroc.high


def attack(
    members: Float[Tensor, " N"], others: Float[Tensor, " M"], level: float = 0.95
) -> Attack:
    """AUROC with an interval, and the members found at 10% false accusations.

    Args:
        members: one score a person who was trained on, higher for more likely so.
        others: one a person who was not.
        level: of the interval; for the best of several attacks, 1 - 0.05 divided by their number.
    """
    value = auroc_interval(auroc(members, others), len(members), len(others), level)
    above = float(others.sort(descending=True).values[int(0.1 * len(others))])
    return Attack(value, float((members > above).float().mean()))


def auroc_interval(value: float, members: int, others: int, level: float = 0.95) -> Interval:
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

    return Interval(value, edge(-1), edge(1))


def half_width(members: int, others: int, level: float = 0.95) -> float:
    """Half the interval of an AUROC of 0.5: about what an attack has to reach to be noticed."""
    found = auroc_interval(0.5, members, others, level)
    return (found.high - found.low) / 2


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
    features: Float[Tensor, "R F"],
    member: Bool[Tensor, " R"],
    person: Int[Tensor, " R"],
    level: float = 0.95,
    draws: int = 40,
    seed: int = 0,
) -> Attack:
    """Whether a classifier that never saw a model tells members from others.

    Logistic regression judges scans that it did not learn from; where it tells the two sets
    apart, they differ, and so will an attack's scores. The interval is as wide as the AUROC
    scatters when people are dealt anew, because all of a fold are judged by one classifier.

    Args:
        features: of all scans, such as `medgan.networks.metrics.band_features`.
        member: which scans were trained on.
        person: number of each scan's person; nobody is on both sides of a fold.
        level: of the interval.
        draws: how often people are dealt anew.
        seed: of folds and draws.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    judge = make_pipeline(
        StandardScaler(), LogisticRegression(C=1e-2, class_weight="balanced", max_iter=1000)
    )

    def scores(side: Tensor) -> Tensor:
        odds = [
            cross_val_predict(
                judge, features.numpy(), side.numpy(), groups=person.numpy(),
                cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed + repeat),
                method="decision_function",
            )
            for repeat in range(_REPEATS)
        ]  # fmt: skip
        return torch.from_numpy(np.stack(odds).mean(axis=0)).float()  # pyright: ignore

    return _control(scores, member, person, level, draws, seed)


def told_by_neighbours(
    similarities: Float[Tensor, "R R"],
    member: Bool[Tensor, " R"],
    person: Int[Tensor, " R"],
    level: float = 0.95,
    draws: int = 100,
    seed: int = 0,
) -> Attack:
    """Whether scans are nearer to others of their own set, themselves left out.

    They are where one of the sets alone holds groups, such as sites. Everybody is compared with
    everybody, so that some who are like all others move the scores of all: the interval is as
    wide as the AUROC scatters when people are dealt anew.

    Args:
        similarities: of all scans to each other.
        member: which scans were trained on.
        person: number of each scan's person.
        level: of the interval.
        draws: how often people are dealt anew.
        seed: of all draws.
    """
    random = torch.Generator().manual_seed(seed)
    known = other_people(similarities, person, person)

    def drawn(side: Tensor) -> Tensor:
        people = person[side]
        return people[torch.randint(len(people), (len(person),), generator=random)]

    def scores(side: Tensor) -> Tensor:
        margins = []
        for _ in range(_SPARES):
            # Of the other set one person is left out too: everybody sees equally many.
            seen = other_people(known, torch.where(side, drawn(~side), drawn(side)), person)
            margins.append(seen[:, side].max(dim=1).values - seen[:, ~side].max(dim=1).values)
        return torch.stack(margins).mean(dim=0)

    return _control(scores, member, person, level, draws, seed)


def _control(
    scores: Callable[[Tensor], Tensor],
    member: Tensor,
    person: Tensor,
    level: float,
    draws: int,
    seed: int,
) -> Attack:
    """What scores that are a function of membership say, beside what they say of any other."""

    def of(side: Tensor) -> Attack:
        made = scores(side)
        ours, theirs = (by_person(made[half], person[half]) for half in (side, ~side))
        return attack(ours, theirs)

    random, people = torch.Generator().manual_seed(seed), person.unique()
    members = len(person[member].unique())
    deals = [people[torch.randperm(len(people), generator=random)[:members]] for _ in range(draws)]
    spread = float(np.std([of(torch.isin(person, deal)).auroc.value for deal in deals]))
    found, wide = of(member), float(norm.ppf((1 + level) / 2)) * spread
    value = found.auroc.value
    interval = Interval(value, max(0.0, value - wide), min(1.0, value + wide))
    return found._replace(auroc=interval)
