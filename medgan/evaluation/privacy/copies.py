"""Copies of training scans among synthetic volumes, by similarity. Tensors in, metrics out."""

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
"""Standard deviations of the two Gaussians of the band-pass, in voxels. Chosen on real hippocampi
and brains (docs/explanation/audit.md): coarser, all brains are similar; finer, a blurred or rotated
copy is no longer similar to its original."""
REACH = 2
"""Largest shift between two volumes, in voxels along each axis."""
MOST_VOXELS = 300_000
"""Larger grids are halved until they are smaller."""
_CHUNK = 128
_FLAT = 1e-3
_SUBSETS = 8


def similarity(
    queries: Float[Tensor, "N 1 X Y Z"], references: Float[Tensor, "M 1 X Y Z"]
) -> Float[Tensor, "N M"]:
    """Similarity of every query to every reference, robust to distortions.

    Normalised cross-correlation of band-pass filtered volumes in each octant: the maximum over
    shifts of up to 2 voxels along each axis, then the mean over octants. Neither anatomy common to
    all subjects nor noise contributes. It is robust to such shifts, to gain, offset and gamma,
    noise, slight blur, and rotations of a few degrees, which shift each octant differently. It is
    symmetric, and the value of a pair depends on no other volume.

    Args:
        queries: intensities in [-1, 1], at least 8 voxels an axis.
        references: on the same grid.

    Returns:
        Values in [-1, 1], on the CPU; 1 for the same volume, 0 where one has no detail.
    """
    found, known = [], _details(references)
    for part in queries.split(_CHUNK):
        details = _details(part)
        best = torch.full((8, len(part), len(references)), -1.0, device="cpu")
        for shift in itertools.product(range(-REACH, REACH + 1), repeat=3):
            ours, theirs = _octants(details, shift), _octants(known, [-s for s in shift])
            for octant, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                best[octant] = torch.maximum(best[octant], a @ b.T)
        found.append(_mean_over_octants(best, details, known))
    return torch.cat(found).clamp(-1, 1)


def _details(volumes: Tensor) -> Float[Tensor, "N X Y Z"]:
    """Band-pass filtered volumes; large grids are halved."""
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
    """The overlap with shifted volumes by octants: every second voxel, standardised.

    Returns:
        Eight of shape (N, F), each row of length 1, or 0 where there is no detail.
    """
    overlap = tuple(
        slice(max(0, s), n + min(0, s), 2) for s, n in zip(shift, details.shape[1:], strict=True)
    )
    parts = [details[(slice(None), *overlap)]]
    for axis in (1, 2, 3):
        parts = [half for part in parts for half in part.tensor_split(2, dim=axis)]
    found = []
    for part in parts:
        values = part.flatten(1)
        values = values - values.mean(dim=1, keepdim=True)
        length = values.norm(dim=1, keepdim=True)
        found.append(torch.where(length > _FLAT, values / length.clamp(min=_FLAT), 0.0))
    return found


def _mean_over_octants(
    alike: Float[Tensor, "8 N M"], queries: Tensor, references: Tensor
) -> Float[Tensor, "N M"]:
    """The mean over octants, without those that are empty in both volumes, such as air."""
    ours, theirs = (
        torch.stack([part.any(dim=1) for part in _octants(details, (0, 0, 0))])
        for details in (queries, references)
    )
    weight = (ours[:, :, None] | theirs[:, None]).float()
    return (alike * weight).sum(dim=0) / weight.sum(dim=0).clamp(min=1)


def mask_same_subject(
    similarities: Float[Tensor, "N M"], rows: Int[Tensor, " N"], columns: Int[Tensor, " M"]
) -> Float[Tensor, "N M"]:
    """Similarities with -1, the minimum, where both volumes are of one subject.

    Args:
        similarities: of volumes to references.
        rows: number of the subject of each volume; of a synthetic volume, a subject to leave out.
        columns: the same of each reference.
    """
    return similarities.masked_fill(rows[:, None] == columns[None], -1.0)


def closeness(
    to_train: Float[Tensor, "N M"], to_holdout: Float[Tensor, "N H"]
) -> Float[Tensor, " N"]:
    """Similarity to the nearest training scan minus that to the nearest held-out scan.

    Synthetic volumes may be more typical than real scans, and so more similar to all of them. The
    similarity to held-out scans, which the generator never saw, corrects for that.

    Args:
        to_train: similarity to every training scan.
        to_holdout: to every held-out scan, `mask_same_subject` for held-out scans themselves.
    """
    return to_train.max(dim=1).values - to_holdout.max(dim=1).values


class Excess(NamedTuple):
    """Volumes that are closer to training scans than nearly all fresh scans are.

    Attributes:
        threshold: closeness above which a volume is flagged.
        flagged: number of volumes above it.
        volumes: number of all volumes.
        expected: share of fresh scans above it.
        share: share flagged minus the expected share.
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
    """Excess share of volumes that are closer to training scans than fresh scans are.

    The threshold is an order statistic of the fresh scans. The share of further fresh scans above
    it has a known distribution (beta), so the interval is valid for 20 of them, where a bootstrap
    is not.

    Args:
        volumes: closeness of each.
        fresh: of scans that are not training scans, one per subject, at least 19.
        rate: share of fresh scans above the threshold.
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
    """A share (Jeffreys' interval) minus the share of fresh scans above the threshold."""
    random, draws = np.random.default_rng(0), 20_000
    ours = random.beta(flagged + 0.5, count - flagged + 0.5, draws)
    usual = random.beta(above, fresh + 1 - above, draws)
    return Interval.of_resamples(flagged / count - above / (fresh + 1), ours - usual, level)


def smallest_detectable_excess(
    count: int, fresh: int, rate: float = 0.05, level: float = 0.95
) -> float:
    """The smallest excess share whose interval in `excess` excludes 0.

    Args:
        count: number of volumes.
        fresh: number of scans that are not training scans.
        rate: as in `excess`.
        level: as in `excess`.
    """
    above = max(1, int(rate * (fresh + 1)))
    flagged = next(
        (n for n in range(count + 1) if _excess_interval(n, count, above, fresh, level).low > 0),
        count,
    )
    return flagged / count - above / (fresh + 1)


def upper_bound_of_copies(found: int, count: int, level: float = 0.95) -> float:
    """Upper bound of the share of copies, given the number found."""
    return proportion(found, count, level).high


def not_authentic(
    to_references: Float[Tensor, "N M"], between: Float[Tensor, "M M"]
) -> Bool[Tensor, " N"]:
    """Which volumes are more similar to their nearest scan than that is to its nearest neighbour.

    Args:
        to_references: similarity of volumes to scans.
        between: of the scans to each other, `mask_same_subject`.

    Reference: Alaa et al. 2021, arXiv 2102.08921, section 3.3, with similarity for distance.
    """
    nearest = to_references.max(dim=1)
    return nearest.values > between.max(dim=1).values[nearest.indices]


def permutation_range(
    metric: Callable[[Tensor, Tensor], float],
    member: Bool[Tensor, " R"],
    subject: Int[Tensor, " R"],
    level: float = 0.95,
    draws: int = 250,
    seed: int = 0,
) -> Interval:
    """A metric of two sets of equally many subjects, and its range under permuted membership.

    The nearest of 120 scans is nearer than the nearest of 40: the larger set is subsampled to the
    number of subjects of the smaller one, several times, and the metrics are averaged.

    Args:
        metric: of the rows of the training set and of the held-out set.
        member: which scans are training scans.
        subject: number of each scan's subject.
        level: share of the permutations within the range.
        draws: number of permutations.
        seed: of the permutations.

    Reference: Good 2005, Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3.
    """
    random = torch.Generator().manual_seed(seed)
    members, others = subject[member].unique(), subject[~member].unique()
    subjects = torch.cat([members, others])

    def of(ours: Tensor, theirs: Tensor) -> float:
        few = min(len(ours), len(theirs))
        values = []
        for _ in range(1 if len(ours) == len(theirs) else _SUBSETS):
            sides = (
                torch.isin(subject, side[torch.randperm(len(side), generator=random)[:few]])
                for side in (ours, theirs)
            )
            values.append(metric(*(side.nonzero()[:, 0] for side in sides)))
        return sum(values) / len(values)

    value, permuted = of(members, others), []
    for _ in range(draws):
        order = subjects[torch.randperm(len(subjects), generator=random)]
        permuted.append(of(order[: len(members)], order[len(members) :]))
    return Interval.of_resamples(value, np.array(permuted), level)
