"""Do volumes give away the scans that a generator learned from? Tensors in, figures out."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from medgan.evaluation.interval import Interval, proportion

FINEST, COARSEST = 0.7, 2.0
"""Spreads of the two Gaussians, in voxels, between which details are compared. Chosen on real
hippocampi and brains (docs/explanation/audit.md): coarser, all brains are alike; finer, a blurred
or turned copy is no longer like its original."""
REACH = 2
"""Voxels that one volume may be shifted by against the other, along each axis."""
MOST_VOXELS = 300_000
"""Larger grids are halved until they have no more."""
_CHUNK = 128
_FLAT = 1e-3
_SUBSETS = 8


def similarity(
    queries: Float[Tensor, "N 1 X Y Z"], references: Float[Tensor, "M 1 X Y Z"]
) -> Float[Tensor, "N M"]:
    """How alike every query is to every reference, whatever was done to hide it.

    Details between two sizes are compared, so that neither anatomy that all people share nor
    noise counts: the normalised cross-correlation of band-passed volumes in each octant, the
    largest over shifts of up to 2 voxels along each axis, the mean over octants. It bears such
    shifts, other gain, offset and gamma, noise, slight blur, and turns of a few degrees, which
    shift each octant its own way. It is symmetric, and a pair's value depends on no other volume.

    Args:
        queries: intensities in [-1, 1], at least 8 voxels an axis.
        references: on the same grid.

    Returns:
        Values in [-1, 1], on the CPU; 1 for the same volume, 0 where one has no details at all.
    """
    found, known = [], _details(references)
    for part in queries.split(_CHUNK):
        details = _details(part)
        best = torch.full((8, len(part), len(references)), -1.0, device="cpu")
        for shift in itertools.product(range(-REACH, REACH + 1), repeat=3):
            ours, theirs = _octants(details, shift), _octants(known, [-s for s in shift])
            for octant, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                best[octant] = torch.maximum(best[octant], a @ b.T)
        found.append(_mean_where_there_is_something(best, details, known))
    return torch.cat(found).clamp(-1, 1)


def _details(volumes: Tensor) -> Float[Tensor, "N X Y Z"]:
    """Band-passed volumes, on a grid that is halved while it is large."""
    volumes = volumes.detach().float().cpu()
    while volumes[0].numel() > MOST_VOXELS:
        volumes = F.avg_pool3d(volumes, 2)
    passed = []
    for volume in volumes[:, 0].numpy():
        fine, coarse = (
            ndimage.gaussian_filter(volume, spread, mode="nearest", truncate=3.0)
            for spread in (FINEST, COARSEST)
        )
        passed.append(fine - coarse)
    return torch.from_numpy(np.stack(passed))


def _octants(details: Tensor, shift: Sequence[int]) -> list[Tensor]:
    """What of volumes lies upon others that are shifted: every second voxel, standardised.

    Returns:
        Eight of shape (N, F), each row of length 1, or 0 where there are no details.
    """
    place = tuple(
        slice(max(0, s), n + min(0, s), 2) for s, n in zip(shift, details.shape[1:], strict=True)
    )
    parts = [details[(slice(None), *place)]]
    for axis in (1, 2, 3):
        parts = [half for part in parts for half in part.tensor_split(2, dim=axis)]
    found = []
    for part in parts:
        values = part.flatten(1)
        values = values - values.mean(dim=1, keepdim=True)
        length = values.norm(dim=1, keepdim=True)
        found.append(torch.where(length > _FLAT, values / length.clamp(min=_FLAT), 0.0))
    return found


def _mean_where_there_is_something(
    alike: Float[Tensor, "8 N M"], queries: Tensor, references: Tensor
) -> Float[Tensor, "N M"]:
    """Over the octants; those count for nothing that are empty in both volumes, such as air."""
    ours, theirs = (
        torch.stack([part.any(dim=1) for part in _octants(details, (0, 0, 0))])
        for details in (queries, references)
    )
    weight = (ours[:, :, None] | theirs[:, None]).float()
    return (alike * weight).sum(dim=0) / weight.sum(dim=0).clamp(min=1)


def other_people(
    similarities: Float[Tensor, "N M"], rows: Int[Tensor, " N"], columns: Int[Tensor, " M"]
) -> Float[Tensor, "N M"]:
    """Similarities with -1, the least there is, where both volumes are of one person.

    Args:
        similarities: of volumes to references.
        rows: number of the person of each volume; of a fake, a person to leave out.
        columns: likewise of each reference.
    """
    return similarities.masked_fill(rows[:, None] == columns[None], -1.0)


def closeness(
    to_train: Float[Tensor, "N M"], to_holdout: Float[Tensor, "N H"]
) -> Float[Tensor, " N"]:
    """How much more like its nearest training scan a volume is than like any held-out scan.

    A generator's volumes may be more typical than any real scan and so more like every real
    scan; held-out scans, which it cannot know, show by how much. What is left is what it knows of
    its training scans.

    Args:
        to_train: similarity to every training scan.
        to_holdout: to every held-out one, `other_people` for held-out scans themselves.
    """
    return to_train.max(dim=1).values - to_holdout.max(dim=1).values


class Excess(NamedTuple):
    """How many volumes are nearer to training scans than all but a few fresh scans are.

    Attributes:
        threshold: above which a volume is flagged.
        flagged: volumes above it.
        volumes: how many there are.
        expected: share that fresh scans would have above it.
        share: flagged beyond that.
    """

    threshold: float
    flagged: int
    volumes: int
    expected: float
    share: Interval

    def as_json(self) -> dict[str, float]:
        """All numbers on one level."""
        values = self._asdict()
        return {**values, **values.pop("share")._asdict()}


def excess(
    volumes: Float[Tensor, " N"],
    fresh: Float[Tensor, " H"],
    rate: float = 0.05,
    level: float = 0.95,
) -> Excess:
    """Share of volumes nearer to training scans than fresh scans are, beyond their own share.

    The threshold is an order statistic of the fresh scans. The share of further fresh scans above
    it has a known distribution whatever theirs is, so that the interval holds for 20 of them too,
    where resampling so few would not.

    Args:
        volumes: closeness of each.
        fresh: of scans that were not trained on, one a person, at least 19.
        rate: share of fresh scans to be flagged.
        level: of the interval.

    Reference: David and Nagaraja 2003, Order Statistics, section 7.2 (tolerance intervals).
    """
    above = max(1, int(rate * (len(fresh) + 1)))
    threshold = float(fresh.sort(descending=True).values[above - 1])
    flagged = int((volumes > threshold).sum())
    expected = above / (len(fresh) + 1)
    share = _excess_interval(flagged, len(volumes), above, len(fresh), level)
    return Excess(threshold, flagged, len(volumes), expected, share)


def _excess_interval(flagged: int, count: int, above: int, fresh: int, level: float) -> Interval:
    """Of a share with Jeffreys' interval, less the share of fresh scans above a threshold."""
    random, draws = np.random.default_rng(0), 20_000
    ours = random.beta(flagged + 0.5, count - flagged + 0.5, draws)
    usual = random.beta(above, fresh + 1 - above, draws)
    return Interval.of_resamples(flagged / count - above / (fresh + 1), ours - usual, level)


def least_noticed(count: int, fresh: int, rate: float = 0.05, level: float = 0.95) -> float:
    """The smallest excess share that `excess` would have told from none.

    Args:
        count: volumes.
        fresh: scans that were not trained on.
        rate: as in `excess`.
        level: as in `excess`.
    """
    above = max(1, int(rate * (fresh + 1)))
    flagged = next(
        (n for n in range(count + 1) if _excess_interval(n, count, above, fresh, level).low > 0),
        count,
    )
    return flagged / count - above / (fresh + 1)


def most_missed(found: int, count: int, level: float = 0.95) -> float:
    """The largest share of copies that goes with so many found in so many volumes."""
    return proportion(found, count, level).high


def not_authentic(
    to_references: Float[Tensor, "N M"], between: Float[Tensor, "M M"]
) -> Bool[Tensor, " N"]:
    """Which volumes are nearer to their nearest scan than that is to its own nearest other.

    Args:
        to_references: similarity of volumes to scans.
        between: of the scans to each other, `other_people`.

    Reference: Alaa et al. 2021, arXiv 2102.08921, section 3.3, with similarity for distance.
    """
    nearest = to_references.max(dim=1)
    return nearest.values > between.max(dim=1).values[nearest.indices]


def swapped(
    figure: Callable[[Tensor, Tensor], float],
    member: Bool[Tensor, " R"],
    person: Int[Tensor, " R"],
    level: float = 0.95,
    draws: int = 250,
    seed: int = 0,
) -> Interval:
    """A figure of two sets of equally many people, and its range when membership means nothing.

    The nearest of 120 is nearer than the nearest of 40: of the larger set as many people are
    drawn as the smaller has, several times, and the figures averaged.

    Args:
        figure: of the numbers of scans that play the training set, and the held-out one.
        member: which scans were trained on.
        person: number of each scan's person.
        level: share of the exchanges that the range holds.
        draws: exchanges.
        seed: of all draws.

    Reference: Good 2005, Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3.
    """
    random = torch.Generator().manual_seed(seed)
    members, others = person[member].unique(), person[~member].unique()
    people = torch.cat([members, others])

    def of(ours: Tensor, theirs: Tensor) -> float:
        few = min(len(ours), len(theirs))
        values = []
        for _ in range(1 if len(ours) == len(theirs) else _SUBSETS):
            sides = (
                torch.isin(person, side[torch.randperm(len(side), generator=random)[:few]])
                for side in (ours, theirs)
            )
            values.append(figure(*(side.nonzero()[:, 0] for side in sides)))
        return sum(values) / len(values)

    value, dealt = of(members, others), []
    for _ in range(draws):
        order = people[torch.randperm(len(people), generator=random)]
        dealt.append(of(order[: len(members)], order[len(members) :]))
    return Interval.of_resamples(value, np.array(dealt), level)
