"""What healthy scans look like to each score map, and what a new score is worth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.errors import DataError
from medgan.scoring.comparability import Typical
from medgan.scoring.maps import top_mean

MIN_SCANS = 5
_FLOOR = 0.25
"""Smallest spread at a position, as a share of the map's mean spread: where healthy scans
happen to agree, such as in air, a small difference must not become a huge score."""


@dataclass(frozen=True)
class MapStatistics:
    """Healthy mean and spread of one map at every position.

    Attributes:
        mean, spread: shape (1, X, Y, Z).
    """

    mean: Tensor
    spread: Tensor

    def standardise(self, score_map: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B 1 X Y Z"]:
        """The map in healthy standard deviations above the healthy mean."""
        return (score_map - self.mean) / self.spread


@dataclass(frozen=True)
class Calibration:
    """How a model scores healthy scans that it was not trained on.

    Attributes:
        statistics: of each map, by name.
        centres, scales: mean and spread of each map's scan scores.
        scores: combined scores of the calibration scans, rising.
        top: share of the highest voxels that make a map's score.
        level: what the standardised map of every second healthy scan nowhere exceeds; above it
            voxels make regions.
        typical: what a scan has to be like to be compared with the calibration scans; None takes
            any.
    """

    statistics: dict[str, MapStatistics]
    centres: dict[str, float]
    scales: dict[str, float]
    scores: tuple[float, ...]
    top: float
    level: float
    typical: Typical | None = None

    def score(
        self, maps: dict[str, Tensor]
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B 1 X Y Z"], dict[str, Tensor]]:
        """Scores new scans.

        Args:
            maps: raw score maps (B, 1, X, Y, Z), by name.

        Returns:
            Combined scores (B,); the mean of the standardised maps, (B, 1, X, Y, Z); each
            map's own score, (B,), in healthy standard deviations.
        """
        standardised = {n: self.statistics[n].standardise(m) for n, m in maps.items()}
        parts = {
            name: (top_mean(m, self.top) - self.centres[name]) / self.scales[name]
            for name, m in standardised.items()
        }
        combined = torch.stack(list(parts.values())).mean(dim=0)
        return combined, torch.stack(list(standardised.values())).mean(dim=0), parts

    def p_value(self, score: float) -> float:
        """Conformal p-value: how rare so high a score is among healthy scans.

        The share of healthy scans, the new one counted among them, that score at least as high.
        The smallest possible is 1 / (n + 1).
        """
        return conformal_p_value(score, self.scores)


def conformal_p_value(score: float, healthy: Sequence[float]) -> float:
    """(1 + number of healthy scores at or above `score`) / (n + 1).

    Valid on average over calibration sets when the new scan is exchangeable with them.

    Example:
        >>> conformal_p_value(2.5, [1.0, 2.0, 3.0])
        0.5

    Reference: Bates et al. 2023, arXiv 2104.08279, eq. 3.
    """
    return (1 + sum(h >= score for h in healthy)) / (len(healthy) + 1)


def calibrate(maps: dict[str, Float[Tensor, "N 1 X Y Z"]], top: float) -> Calibration:
    """Learns the healthy statistics from raw score maps of held-out healthy scans.

    Each calibration scan is scored with the statistics of all the others: scored with its own
    among them it would look too ordinary, and every new scan too strange.

    Args:
        maps: raw score maps of the same N scans, by name.
        top: share of the highest voxels that make a map's score.

    Raises:
        DataError: E_CALIBRATION with fewer than five scans.
    """
    count = len(next(iter(maps.values())))
    if count < MIN_SCANS:
        raise DataError(
            "E_CALIBRATION", f"{count} healthy scans", f"at least {MIN_SCANS} are needed",
            "add healthy scans or raise the calibration share in data.fractions",
        )  # fmt: skip
    left_out = {name: left_out_scores(m, top) for name, m in maps.items()}
    centres = {name: float(s.mean()) for name, s in left_out.items()}
    scales = {name: max(float(s.std()), 1e-6) for name, s in left_out.items()}
    parts = [(s - centres[name]) / scales[name] for name, s in left_out.items()]
    combined = torch.stack(parts).mean(dim=0)
    together = zip(*(left_out_maps(m) for m in maps.values()), strict=True)
    peaks = [float(torch.stack(same).mean(dim=0).max()) for same in together]
    return Calibration(
        {name: statistics(m) for name, m in maps.items()},
        centres, scales, tuple(sorted(combined.tolist())), top, float(np.median(peaks)),
    )  # fmt: skip


def statistics(score_map: Float[Tensor, "N 1 X Y Z"]) -> MapStatistics:
    """Mean and floored spread over N scans at every position."""
    return _floored(score_map.mean(dim=0), score_map.std(dim=0))


def left_out_scores(score_map: Float[Tensor, "N 1 X Y Z"], top: float) -> Float[Tensor, " N"]:
    """Each scan's score, standardised by the statistics of all the other scans.

    Args:
        score_map: of N scans, N above 2.
        top: share of the highest voxels that make a score.
    """
    return torch.cat([top_mean(one, top) for one in left_out_maps(score_map)])


def left_out_maps(score_map: Float[Tensor, "N 1 X Y Z"]) -> Iterator[Float[Tensor, "1 1 X Y Z"]]:
    """Each scan's map, standardised by the statistics of all the other scans.

    The others' mean and variance follow from the sums over all scans, in double precision.

    Args:
        score_map: of N scans, N above 2.
    """
    count = len(score_map)
    total = score_map.sum(dim=0, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for one in score_map:
        squares += one.double().square()
    for one in map(Tensor.double, score_map):
        mean = (total - one) / (count - 1)
        variance = (squares - one.square() - (count - 1) * mean.square()) / (count - 2)
        others = _floored(mean.float(), variance.clamp(min=0).sqrt().float())
        yield others.standardise(one[None].float())


def _floored(mean: Tensor, spread: Tensor) -> MapStatistics:
    return MapStatistics(mean, spread.clamp(min=max(_FLOOR * float(spread.mean()), 1e-6)))
