"""Membership inference: attacks with the generated scans or the model, and their controls."""

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
from medgan.evaluation.privacy.copies import mask_same_subject
from medgan.evaluation.probes.two_sample import auroc

_FOLDS, _REPEATS = 5, 2
_SPARES = 4


class Attack(NamedTuple):
    """Result of a membership inference attack.

    Attributes:
        auroc: probability that a member scores above a non-member; 0.5 is chance.
        found: sensitivity for members at a false-positive rate of 10%.
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
    def succeeds(self) -> bool:
        """Whether the interval excludes chance."""
        return not self.auroc.low <= 0.5 <= self.auroc.high


Attacks = dict[str, dict[str, Attack]]
"""Attacks by name, in the groups `black_box`, `white_box` and `controls`."""


def attack(
    members: Float[Tensor, " N"], others: Float[Tensor, " M"], level: float = 0.95
) -> Attack:
    """AUROC with its interval, and the sensitivity at 10% false positives.

    Args:
        members: one score per training subject; higher for more likely members.
        others: one score per other subject.
        level: of the interval; for the best of several attacks, 1 - 0.05 divided by their number.
    """
    value = auroc_interval(auroc(members, others), len(members), len(others), level)
    above = float(others.sort(descending=True).values[int(0.1 * len(others))])
    return Attack(value, float((members > above).float().mean()))


def auroc_interval(value: float, members: int, others: int, level: float = 0.95) -> Interval:
    """The interval of an AUROC, valid for few subjects and for values of 0 and 1.

    A score interval: all true values that are compatible with the observed one. A bootstrap gives
    no interval where the sets are separated perfectly.

    Args:
        value: the AUROC.
        members: number of members.
        others: number of non-members.
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


def auroc_half_width(members: int, others: int, level: float = 0.95) -> float:
    """Half the interval of an AUROC of 0.5: about the smallest effect that can be detected."""
    found = auroc_interval(0.5, members, others, level)
    return (found.high - found.low) / 2


def mean_by_subject(scores: Float[Tensor, " N"], subject: Int[Tensor, " N"]) -> Float[Tensor, " P"]:
    """The mean score of each subject, in the order of their numbers."""
    return torch.stack([scores[subject == one].mean() for one in subject.unique()])


def black_box_scores(to_fakes: Float[Tensor, "N M"]) -> dict[str, Float[Tensor, " N"]]:
    """Scores of a black-box attack, which has the synthetic scans alone.

    Args:
        to_fakes: similarity of each record to every synthetic scan.

    Returns:
        `nearest`, similarity to the nearest synthetic scan; `nearest beyond usual`, that minus the
        median similarity, because a typical record is similar to all of them.

    Reference: Hayes et al. 2019, arXiv 1705.07663, and Chen et al. 2020, arXiv 1909.03935,
        section 5.2 (attacks on generated samples alone).
    """
    nearest = to_fakes.max(dim=1).values
    return {"nearest": nearest, "nearest beyond usual": nearest - to_fakes.median(dim=1).values}


def feature_control(
    features: Float[Tensor, "R F"],
    member: Bool[Tensor, " R"],
    subject: Int[Tensor, " R"],
    level: float = 0.95,
    draws: int = 40,
    seed: int = 0,
) -> Attack:
    """Control: a classifier of members against non-members that uses no model.

    Cross-validated logistic regression. Where it separates the two sets, they differ, and so will
    the scores of an attack. The interval comes from permutations of the subjects, because the scans
    of a fold share one classifier.

    Args:
        features: of all scans, such as `medgan.networks.metrics.band_features`.
        member: which scans are training scans.
        subject: number of each scan's subject; a subject is in one fold only.
        level: of the interval.
        draws: permutations of the subjects.
        seed: of folds and permutations.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=1e-2, class_weight="balanced", max_iter=1000)
    )

    def scores(side: Tensor) -> Tensor:
        odds = [
            cross_val_predict(
                classifier, features.numpy(), side.numpy(), groups=subject.numpy(),
                cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed + repeat),
                method="decision_function",
            )
            for repeat in range(_REPEATS)
        ]  # fmt: skip
        return torch.from_numpy(np.stack(odds).mean(axis=0)).float()  # pyright: ignore

    return _control(scores, member, subject, level, draws, seed)


def neighbour_control(
    similarities: Float[Tensor, "R R"],
    member: Bool[Tensor, " R"],
    subject: Int[Tensor, " R"],
    level: float = 0.95,
    draws: int = 100,
    seed: int = 0,
) -> Attack:
    """Control: whether scans are nearer to other scans of their own set.

    They are where only one of the sets contains groups, such as sites. All scores use the same
    pairwise similarities and are not independent: the interval comes from permutations of the
    subjects.

    Args:
        similarities: of all scans to each other.
        member: which scans are training scans.
        subject: number of each scan's subject.
        level: of the interval.
        draws: permutations of the subjects.
        seed: of the permutations.
    """
    random = torch.Generator().manual_seed(seed)
    known = mask_same_subject(similarities, subject, subject)

    def sampled(side: Tensor) -> Tensor:
        subjects = subject[side]
        return subjects[torch.randint(len(subjects), (len(subject),), generator=random)]

    def scores(side: Tensor) -> Tensor:
        margins = []
        for _ in range(_SPARES):
            # One subject of the other set is left out too: both sets then have equal size.
            known_to_side = mask_same_subject(
                known, torch.where(side, sampled(~side), sampled(side)), subject
            )
            margins.append(
                known_to_side[:, side].max(dim=1).values - known_to_side[:, ~side].max(dim=1).values
            )
        return torch.stack(margins).mean(dim=0)

    return _control(scores, member, subject, level, draws, seed)


def _control(
    scores: Callable[[Tensor], Tensor],
    member: Tensor,
    subject: Tensor,
    level: float,
    draws: int,
    seed: int,
) -> Attack:
    """The attack by scores that depend on membership, its interval from permuted membership."""

    def of(side: Tensor) -> Attack:
        made = scores(side)
        ours, theirs = (mean_by_subject(made[half], subject[half]) for half in (side, ~side))
        return attack(ours, theirs)

    random, subjects = torch.Generator().manual_seed(seed), subject.unique()
    members = len(subject[member].unique())
    deals = [
        subjects[torch.randperm(len(subjects), generator=random)[:members]] for _ in range(draws)
    ]
    spread = float(np.std([of(torch.isin(subject, deal)).auroc.value for deal in deals]))
    found, wide = of(member), float(norm.ppf((1 + level) / 2)) * spread
    value = found.auroc.value
    interval = Interval(value, max(0.0, value - wide), min(1.0, value + wide))
    return found._replace(auroc=interval)
