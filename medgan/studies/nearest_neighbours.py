"""Similarity of synthetic scans to their nearest training scans and held-out scans."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medgan.core.progress import counting
from medgan.evaluation.interval import Interval
from medgan.evaluation.privacy.copies import (
    Excess,
    closeness,
    excess,
    mask_same_subject,
    not_authentic,
    permutation_range,
    similarity,
)
from medgan.evaluation.privacy.distortions import distort
from medgan.studies.cohort_split import CohortSplit

SCAN_CHECKS = 5
"""Checks of synthetic scans that can fail by chance and share the error rate."""
PLANTED = 20
"""Distorted copies of training scans that are hidden among the synthetic ones."""
RATE = 0.05
"""Share of fresh scans that is flagged."""
LEVEL = 0.95
"""Probability that the verdict on a generator that does not leak is not a failure."""
PERMUTATIONS = 400
"""Times that membership is permuted among subjects."""


def shared(level: float, checks: int) -> float:
    """Confidence level of each of several checks, by Bonferroni."""
    return 1 - (1 - level) / checks


@dataclass(frozen=True)
class PlantedCopies:
    """Distorted copies of training scans, hidden among the synthetic scans.

    Attributes:
        volumes: (K, 1, X, Y, Z).
        originals: (K,) numbers of the scans that were copied.
        closeness: (K,).
        traced: number whose nearest training scan is their original.
    """

    volumes: Tensor
    originals: Tensor
    closeness: Tensor
    traced: int


@dataclass(frozen=True)
class NeighbourComparison:
    """Similarities of synthetic and real scans, and metrics from them.

    Attributes:
        to_fakes: (R, N), similarity of every real scan to every synthetic one.
        between: (R, R), of real scans, -1 for scans of one subject.
        fakes: (N,) closeness of synthetic scans.
        fresh: (H,) closeness of one scan of each held-out subject, compared without that subject.
        planted: distorted copies of training scans.
        near: synthetic scans closer to training scans than fresh ones are.
        near_plain: the same by similarity to training scans alone.
        distorted: as `near`, of distorted held-out scans.
        copies: synthetic scans closer than half of the planted copies are.
        copies_fresh: the same for held-out scans.
        nearer: share of synthetic scans nearer to a training scan than to any held-out scan.
        authenticity: share that is not authentic, minus that with held-out scans as references.
        not_authentic: share of synthetic scans, with all training scans as references.
        not_authentic_fresh: the same for held-out scans.
    """

    to_fakes: Tensor
    between: Tensor
    fakes: Tensor
    fresh: Tensor
    planted: PlantedCopies
    near: Excess
    near_plain: Excess
    distorted: Excess
    copies: int
    copies_fresh: int
    nearer: Interval
    authenticity: Interval
    not_authentic: float
    not_authentic_fresh: float

    @property
    def planted_found(self) -> int:
        """Number of planted copies that are flagged."""
        return int((self.planted.closeness > self.near.threshold).sum())

    def as_json(self) -> dict[str, Any]:
        """All metrics, without volumes."""
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
                "distorted_held_out": self.distorted.as_json(),
            },
        }


def real_similarities(split: CohortSplit) -> Tensor:
    """Similarities (R, R) of real scans to each other, -1 for scans of one subject."""
    with counting("comparing real scans") as tick:
        found = similarity(split.images, split.images)
        tick(1, 1)
    return mask_same_subject(found, split.subject, split.subject)


def compare_neighbours(fakes: Tensor, split: CohortSplit, seed: int) -> NeighbourComparison:
    """Compares all synthetic and real scans with all real scans.

    Args:
        fakes: synthetic scans, (N, 1, X, Y, Z).
        split: real ones.
        seed: of the copies, of their distortions and of permutations.
    """
    random = torch.Generator().manual_seed(seed)
    member, subject = split.member, split.subject
    members, others = member.nonzero()[:, 0], split.one_per_subject()
    chosen = torch.randperm(len(members), generator=random)[:PLANTED]
    copies = distort(split.images[members[chosen]], seed)
    held = distort(split.images[others], seed + 1)
    between, found = real_similarities(split), []
    with counting("comparing synthetic scans") as tick:
        for volumes in (fakes, copies, held):
            found.append(similarity(volumes, split.images))
            tick(len(found), 3)
    of_fakes, of_copies, of_held = found
    level = shared(LEVEL, SCAN_CHECKS)

    def close(similarities: Tensor, own: Tensor | None = None) -> Tensor:
        """Closeness with one held-out subject left out, its own or a random one."""
        if own is None:
            draw = torch.randint(len(others), (len(similarities),), generator=random)
            own = subject[others[draw]]
        known = mask_same_subject(similarities, own, subject)
        return closeness(known[:, member], known[:, ~member])

    ours, fresh = close(of_fakes), close(between[others], subject[others])
    planted = PlantedCopies(
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

    arguments = (member, subject, level, PERMUTATIONS, seed)
    known = between[members][:, members]
    return NeighbourComparison(
        to_fakes=of_fakes.T,
        between=between,
        fakes=ours,
        fresh=fresh,
        planted=planted,
        near=excess(ours, fresh, RATE, level),
        near_plain=excess(nearest, nearest_fresh, RATE, level),
        distorted=excess(close(of_held, subject[others]), fresh, RATE, level),
        copies=int((ours >= half).sum()),
        copies_fresh=int((fresh >= half).sum()),
        nearer=permutation_range(nearer, *arguments),
        authenticity=permutation_range(lambda a, b: copying(a) - copying(b), *arguments),
        not_authentic=float(not_authentic(of_fakes[:, members], known).float().mean()),
        not_authentic_fresh=float(not_authentic(between[others][:, members], known).float().mean()),
    )
