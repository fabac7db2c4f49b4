"""Whom synthetic scans are like: training scans or held-out ones, and by how much."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medgan.core.config import AuditConfig
from medgan.core.progress import counting
from medgan.evaluation.interval import Interval
from medgan.evaluation.privacy.copies import (
    Excess,
    closeness,
    excess,
    not_authentic,
    other_people,
    similarity,
    swapped,
)
from medgan.evaluation.privacy.distortions import disguise
from medgan.studies.cohort_split import People

SCAN_CHECKS = 5
"""Checks of synthetic scans that chance can fail: they share what the level leaves."""


def shared(level: float, checks: int) -> float:
    """The level of each of several checks, by Bonferroni."""
    return 1 - (1 - level) / checks


@dataclass(frozen=True)
class Planted:
    """Disguised training scans that were hidden among the synthetic ones.

    Attributes:
        volumes: (K, 1, X, Y, Z).
        originals: (K,) numbers of the scans they were made of.
        closeness: (K,).
        traced: how many are nearest to their own original.
    """

    volumes: Tensor
    originals: Tensor
    closeness: Tensor
    traced: int


@dataclass(frozen=True)
class Resemblance:
    """What the similarities of all to all say; no attack yet.

    Attributes:
        to_fakes: (R, N), of every real scan to every synthetic one.
        between: (R, R), of real scans, -1 for those of one person.
        fakes: (N,) closeness of synthetic scans.
        fresh: (H,) of one held-out scan a person, who is left out of those compared with.
        planted: the copies.
        near: synthetic scans closer to training scans than fresh ones are.
        near_plain: the same by similarity to training scans alone.
        disguised: as `near`, of disguised held-out scans.
        copies: synthetic scans closer than half of the planted copies are.
        copies_fresh: the same of held-out scans.
        nearer: share of synthetic scans nearer to training than to held-out scans.
        authenticity: share that are not authentic, less the same for held-out scans.
        not_authentic: share of synthetic scans, all training scans for references.
        not_authentic_fresh: the same of held-out scans.
    """

    to_fakes: Tensor
    between: Tensor
    fakes: Tensor
    fresh: Tensor
    planted: Planted
    near: Excess
    near_plain: Excess
    disguised: Excess
    copies: int
    copies_fresh: int
    nearer: Interval
    authenticity: Interval
    not_authentic: float
    not_authentic_fresh: float

    @property
    def planted_found(self) -> int:
        """Planted copies that are flagged."""
        return int((self.planted.closeness > self.near.threshold).sum())

    def as_json(self) -> dict[str, Any]:
        """Every figure, no volume."""
        return {
            "near_copies": self.near.as_json(),
            "near_copies_by_similarity_alone": self.near_plain.as_json(),
            "copies": {
                "closeness_of_half_the_planted": float(self.planted.closeness.median()),
                "synthetic": self.copies,
                "held_out": self.copies_fresh,
            },
            "nearer_to_training": self.nearer._asdict(),
            "authenticity": {
                "not_authentic": self.not_authentic,
                "not_authentic_held_out": self.not_authentic_fresh,
                "beyond_held_out": self.authenticity._asdict(),
            },
            "planted": {
                "copies": len(self.planted.closeness),
                "found": self.planted_found,
                "traced_to_their_original": self.planted.traced,
                "disguised_held_out": self.disguised.as_json(),
            },
        }


def resemblance(fakes: Tensor, people: People, settings: AuditConfig) -> Resemblance:
    """Compares everybody with everybody.

    Args:
        fakes: synthetic scans, (N, 1, X, Y, Z).
        people: real ones.
        settings: the audit section.
    """
    random = torch.Generator().manual_seed(settings.seed)
    member, person = people.member, people.person
    members, others = member.nonzero()[:, 0], people.one_each()
    chosen = torch.randperm(len(members), generator=random)[: settings.planted]
    copies = disguise(people.images[members[chosen]], settings.seed)
    held = disguise(people.images[others], settings.seed + 1)
    found: list[Tensor] = []
    with counting("comparing") as tick:
        for volumes in (people.images, fakes, copies, held):
            found.append(similarity(volumes, people.images))
            tick(len(found), 4)
    between, of_fakes, of_copies, of_held = found
    between = other_people(between, person, person)
    level = shared(settings.level, SCAN_CHECKS)

    def close(similarities: Tensor, own: Tensor | None = None) -> Tensor:
        """Each with one held-out person left out, itself or one drawn: all see equally many."""
        if own is None:
            draw = torch.randint(len(others), (len(similarities),), generator=random)
            own = person[others[draw]]
        known = other_people(similarities, own, person)
        return closeness(known[:, member], known[:, ~member])

    ours, fresh = close(of_fakes), close(between[others], person[others])
    planted = Planted(
        copies, members[chosen], close(of_copies),
        int((of_copies[:, member].argmax(dim=1) == chosen).sum()),
    )  # fmt: skip
    half = planted.closeness.median()
    nearest, nearest_fresh = (s[:, member].max(dim=1).values for s in (of_fakes, between[others]))

    def nearer(a: Tensor, b: Tensor) -> float:
        to_a, to_b = (of_fakes[:, numbers].max(dim=1).values for numbers in (a, b))
        return float((to_a > to_b).float().mean())

    def copying(numbers: Tensor) -> float:
        known = between[numbers][:, numbers]
        return float(not_authentic(of_fakes[:, numbers], known).float().mean())

    exchanges = (member, person, level, settings.exchanges, settings.seed)
    known = between[members][:, members]
    return Resemblance(
        to_fakes=of_fakes.T,
        between=between,
        fakes=ours,
        fresh=fresh,
        planted=planted,
        near=excess(ours, fresh, settings.rate, level),
        near_plain=excess(nearest, nearest_fresh, settings.rate, level),
        disguised=excess(close(of_held, person[others]), fresh, settings.rate, level),
        copies=int((ours >= half).sum()),
        copies_fresh=int((fresh >= half).sum()),
        nearer=swapped(nearer, *exchanges),
        authenticity=swapped(lambda a, b: copying(a) - copying(b), *exchanges),
        not_authentic=float(not_authentic(of_fakes[:, members], known).float().mean()),
        not_authentic_fresh=float(not_authentic(between[others][:, members], known).float().mean()),
    )
