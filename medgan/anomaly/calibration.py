"""Calibration: statistics of healthy score maps, and conformal p-values of new scores."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medgan.anomaly.adjustment import Adjustment, Kind, fit_adjustment
from medgan.anomaly.comparability import ReferenceStatistics
from medgan.anomaly.maps import top_mean
from medgan.anomaly.statistics import MapStatistics, floored
from medgan.core.errors import ConfigError, DataError
from medgan.data.conditions import Value, covariate_of
from medgan.data.manifest import Case

MIN_SCANS = 5
_EVEN = frozenset({"localiser", "restoration", "darker", "brighter"})
"""Maps with one mean and one standard deviation for all positions: they hardly differ between
healthy scans, and what forty of these differ by at one position is chance. AUROC on planted lesions
in hippocampi (highest 0.3% of voxels) is 0.81; with a mean for each position 0.79, with its
standard deviation too 0.72.
Signed deviations are in healthy standard deviations already."""


@dataclass(frozen=True)
class ScoringConfig:
    """How maps become a score and a heat map.

    Attributes:
        scorers: whose maps are combined.
        top_fraction: share of voxels, the highest, whose mean is the score of a map.
        covariates: that scores are adjusted for, and of which kind each is.
    """

    scorers: tuple[str, ...]
    top_fraction: float = 0.01
    covariates: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """How a model scores healthy scans that it was not trained on, nor chosen by.

    Attributes:
        scoring_config: how maps become a score.
        statistics: of each map, by name.
        centres, scales: mean and standard deviation of each map's scan scores.
        scores: combined scores of the calibration scans, adjusted, rising.
        level: median over calibration scans of the highest value of the standardised map;
            regions lie above it.
        reference: statistics that say whether a scan is comparable with the calibration scans;
            None takes any scan.
        adjustment: of scores for covariates; None where there is none.
    """

    scoring_config: ScoringConfig
    statistics: dict[str, MapStatistics]
    centres: dict[str, float]
    scales: dict[str, float]
    scores: tuple[float, ...]
    level: float
    reference: ReferenceStatistics | None = None
    adjustment: Adjustment | None = None

    def score(
        self, maps: Mapping[str, Tensor], unseen: Bool[Tensor, "X Y Z"] | None = None
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B 1 X Y Z"], dict[str, Tensor]]:
        """Scores new scans.

        Args:
            maps: raw score maps (B, 1, X, Y, Z), by name.
            unseen: anatomy beyond the fields of view; there they count as the mean healthy scan.

        Returns:
            Combined scores (B,), not adjusted; the mean of the standardised maps,
            (B, 1, X, Y, Z); each map's own score, (B,), in healthy standard deviations.
        """
        standardised = {n: self.statistics[n].standardise(m) for n, m in maps.items()}
        for one in standardised.values():
            if unseen is not None and one.shape[2:] == unseen.shape:
                one[:, :, unseen] = 0.0
        parts = {
            name: (top_mean(m, self.scoring_config.top_fraction) - self.centres[name])
            / self.scales[name]
            for name, m in standardised.items()
        }
        combined = torch.stack(list(parts.values())).mean(dim=0)
        return combined, mean_map(standardised.values()), parts

    def adjusted(self, score: float, covariates: Mapping[str, Value]) -> float:
        """A combined score, given the covariates of its scan."""
        return score if self.adjustment is None else self.adjustment(score, covariates)

    @property
    def adjusts(self) -> tuple[str, ...]:
        """Names of the covariates that scores are adjusted for."""
        found = () if self.adjustment is None else self.adjustment.covariates
        return tuple(one.name for one in found)

    def covariates_of(self, case: Case) -> dict[str, Value]:
        """Of a case, the covariates that scores are adjusted for."""
        return {name: covariate_of(case, name) for name in self.adjusts}

    def p_value(self, score: float) -> float:
        """Conformal p-value of an adjusted score, `conformal_p_value`; at least 1 / (n + 1)."""
        return conformal_p_value(score, self.scores)


def conformal_p_value(score: float, healthy: Sequence[float]) -> float:
    """Share of healthy scans, the new one included, that score at least as high.

    (1 + number of healthy scores at or above `score`) / (n + 1).

    Valid on average over calibration sets when the new scan is exchangeable with them.

    Example:
        >>> conformal_p_value(2.5, [1.0, 2.0, 3.0])
        0.5

    Reference: Bates et al. 2023, arXiv 2104.08279, eq. 3.
    """
    return (1 + sum(h >= score for h in healthy)) / (len(healthy) + 1)


def calibrate(
    maps: dict[str, Float[Tensor, "N 1 X Y Z"]],
    scoring_config: ScoringConfig,
    covariates: Sequence[Mapping[str, Value]] = (),
) -> Calibration:
    """Estimates healthy statistics from raw score maps of calibration scans.

    Each calibration scan is scored with the statistics of all others. With its own included, its
    score would be too low, and the p-values of new scans too small.

    Args:
        maps: raw score maps of the same N scans, by name.
        scoring_config: how they become scores.
        covariates: of each scan, for those that `scoring_config` names.

    Raises:
        ConfigError: E_CONDITION for a covariate that no scan has or that is no number.
        DataError: E_CALIBRATION with fewer than five scans.
    """
    count = len(next(iter(maps.values())))
    if count < MIN_SCANS:
        raise DataError(
            "E_CALIBRATION", f"{count} healthy scans", f"at least {MIN_SCANS} are needed",
            "add healthy scans or raise the calibration share in data.fractions",
        )  # fmt: skip
    tops: dict[str, list[Tensor]] = {name: [] for name in maps}
    peaks = []
    for together in left_out_maps(maps):
        for name, score_map in together.items():
            tops[name].append(top_mean(score_map, scoring_config.top_fraction))
        peaks.append(float(mean_map(together.values()).max()))
    scores = {name: torch.cat(parts) for name, parts in tops.items()}
    centres = {name: float(s.mean()) for name, s in scores.items()}
    scales = {name: max(float(s.std()), 1e-6) for name, s in scores.items()}
    parts = [(s - centres[name]) / scales[name] for name, s in scores.items()]
    combined = torch.stack(parts).mean(dim=0).tolist()
    adjustment, adjusted = fit_adjustment(
        combined, covariates or [{}] * count, scoring_config.covariates
    )
    return Calibration(
        scoring_config, {name: statistics(m, name in _EVEN) for name, m in maps.items()},
        centres, scales, tuple(sorted(adjusted)), float(np.median(peaks)), None, adjustment,
    )  # fmt: skip


def mean_map(standardised: Iterable[Tensor]) -> Float[Tensor, "B 1 X Y Z"]:
    """The mean of several standardised maps, those of a single voxel left out.

    Raises:
        ConfigError: E_SCORER when nothing is left.
    """
    maps = [m for m in standardised if m[0].numel() > 1]
    if not maps:
        raise ConfigError(
            "E_SCORER", "score.scorers", "no scorer gives a map", "add one, such as density"
        )
    return torch.stack(maps).mean(dim=0)


def statistics(score_map: Float[Tensor, "N 1 X Y Z"], even: bool = False) -> MapStatistics:
    """Mean and floored standard deviation over N scans, for each position or one if `even`."""
    return floored(score_map.mean(dim=0), score_map.std(dim=0), even)


def left_out_maps(
    maps: dict[str, Float[Tensor, "N 1 X Y Z"]],
) -> Iterator[dict[str, Float[Tensor, "1 1 X Y Z"]]]:
    """Each scan's maps, standardised by the statistics of all the other scans.

    Args:
        maps: raw score maps of the same N scans, by name; N above 2.
    """
    each = zip(*(_left_out(m, name in _EVEN) for name, m in maps.items()), strict=True)
    for same in each:
        yield dict(zip(maps, same, strict=True))


def _left_out(score_map: Tensor, even: bool) -> Iterator[Tensor]:
    """Mean and variance of the others from sums over all scans, in double precision."""
    count = len(score_map)
    total = score_map.sum(dim=0, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for one in score_map:
        squares += one.double().square()
    for one in map(Tensor.double, score_map):
        mean = (total - one) / (count - 1)
        variance = (squares - one.square() - (count - 1) * mean.square()) / (count - 2)
        others = floored(mean.float(), variance.clamp(min=0).sqrt().float(), even)
        yield others.standardise(one[None].float())
