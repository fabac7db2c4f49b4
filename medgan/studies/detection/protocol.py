"""A scorer on trial: planted lesions in test scans, everything it needs to know from others."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import ks_2samp
from torch import Tensor

from medgan.anomaly.calibration import ScoringConfig, calibrate, left_out_maps, mean_map
from medgan.core.volume import AIR
from medgan.data.lesions import FAMILIES, SHAM, STRENGTHS, Planted, plant
from medgan.evaluation.detection.metrics import (
    Interval,
    by_subject,
    dice,
    false_alarm_interval,
    few_false_parts,
    few_false_voxels,
    region_overlap,
    voxel_average_precision,
)

Maps = Callable[[Tensor], dict[str, Tensor]]
RADII = (3.0, 4.5, 6.0)
TOP = 0.01
_NUMBERS = {family: number for number, family in enumerate((*FAMILIES, SHAM))}
FALSE_VOXELS = 0.01
"""Share of voxels of healthy calibration scans above the threshold that Dice is measured at."""


class Trial(NamedTuple):
    """One lesion in one scan.

    Attributes:
        scan: number of the test scan.
        family: of `FAMILIES`.
        radius: in voxels.
        contrast: of `STRENGTHS`.
    """

    scan: int
    family: str
    radius: float
    contrast: str


def all_trials(
    scans: int,
    families: Sequence[str] = tuple(FAMILIES),
    radii: Sequence[float] = RADII,
    contrasts: Sequence[str] = tuple(STRENGTHS),
    each: int = 0,
) -> list[Trial]:
    """Every scan with a lesion of every family, in every size and contrast or in some of them.

    Args:
        scans: how many there are.
        families: of lesions.
        radii: in voxels.
        contrasts: of `STRENGTHS`.
        each: sizes and contrasts that a scan gets of a family, another choice for each scan and
            family, so that all come as often; 0 is all of them.
    """
    kinds = [(radius, contrast) for contrast in contrasts for radius in radii]
    each = min(each or len(kinds), len(kinds))
    trials = []
    for scan, family in itertools.product(range(scans), families):
        first = scan + _NUMBERS[family]
        picked = {(first + k * len(kinds) // each) % len(kinds) for k in range(each)}
        trials += [Trial(scan, family, *kinds[n]) for n in sorted(picked)]
    return trials


def planted(volumes: Float[Tensor, "N 1 X Y Z"], trial: Trial, seed: int) -> Planted:
    """The scan of a trial with its lesion: a function of the trial and the seed alone.

    Foreign tissue comes from the next scan.
    """
    where = [
        seed,
        trial.scan,
        _NUMBERS[trial.family],
        round(10 * trial.radius),
        *trial.contrast.encode(),
    ]
    healthy, donor = (volumes[(trial.scan + n) % len(volumes), 0].numpy() for n in (0, 1))
    strength, rng = STRENGTHS[trial.contrast], np.random.default_rng(where)
    return plant(healthy, donor, trial.family, trial.radius, strength, rng)


FIGURES = ("precision", "dice", "overlap", "found")


@dataclass(frozen=True)
class Verdicts:
    """What a scorer made of the test scans, untouched and with lesions.

    Attributes:
        trials: one for each row below.
        above: (T, N), 1 where the scan with the lesion scores above untouched scan n, 0.5 where
            it scores the same, else 0.
        figures: (T, 4), `FIGURES`: average precision over voxels; Dice at the threshold that
            calibration scans gave; `region_overlap`; share of the thresholds of
            `few_false_parts` at which the lesion is found. Not numbers for shams.
        prevalence: (T,) share of lesion among the voxels, which is the precision by chance.
        p_values: (N,) of the untouched scans.
        calibration_scans: that they were ranked among.
    """

    trials: tuple[Trial, ...]
    above: Float[np.ndarray, "T N"]
    figures: Float[np.ndarray, "T 4"]
    prevalence: Float[np.ndarray, " T"]
    p_values: Float[np.ndarray, " N"]
    calibration_scans: int

    def chosen(self, **asked: object) -> np.ndarray:
        """Numbers of the trials with these values, as family="noise"; without, all but shams."""
        rows = [
            all(getattr(t, k) == v for k, v in asked.items())
            and (t.family != SHAM or asked.get("family") == SHAM)
            for t in self.trials
        ]
        return np.flatnonzero(rows)

    def auroc(self, **asked: object) -> Interval:
        """Chance that a scan with a lesion scores above a healthy one, the mean over families."""
        return by_subject(self._pairs(self.chosen(**asked)))

    def auroc_ahead_of(self, other: "Verdicts", **asked: object) -> Interval:
        """By how much the AUROC is above that of another scorer in the same trials."""
        rows = self.chosen(**asked)
        return by_subject(self._pairs(rows) - other._pairs(other.chosen(**asked)))

    def figure(self, name: str, **asked: object) -> Interval:
        """The mean of one of `FIGURES`."""
        return by_subject(self._means(name, self.chosen(**asked)))

    def figure_ahead_of(self, other: "Verdicts", name: str, **asked: object) -> Interval:
        """By how much one of `FIGURES` is above that of another scorer in the same trials."""
        mine = self._means(name, self.chosen(**asked))
        return by_subject(mine - other._means(name, other.chosen(**asked)))

    def false_alarms(self, rate: float) -> Interval:
        """Share of untouched scans with a p-value of at most `rate`."""
        return false_alarm_interval(int((self.p_values <= rate).sum()), len(self.p_values))

    def uniformity(self) -> float:
        """How easily chance alone spreads p-values of untouched scans so unevenly.

        Test scans are ranked among calibration scans, who are a sample too: a Kolmogorov-Smirnov
        test of the two samples.
        """
        count = self.calibration_scans
        return float(ks_2samp(self.p_values, np.arange(1, count + 1) / (count + 1)).pvalue)  # pyright: ignore[reportAttributeAccessIssue]

    def _pairs(self, rows: np.ndarray) -> Float[np.ndarray, "F N N"]:
        """Not a number where a scan has no lesion of a family among these rows."""
        families = np.array([self.trials[row].family for row in rows])
        scans = np.array([self.trials[row].scan for row in rows])
        count = self.above.shape[1]
        pairs = np.full((len(np.unique(families)), count, count), np.nan)
        for matrix, family in zip(pairs, np.unique(families), strict=True):
            for scan in range(count):
                chosen = rows[(families == family) & (scans == scan)]
                if len(chosen):
                    matrix[scan] = self.above[chosen].mean(axis=0)
        return pairs

    def _means(self, name: str, rows: np.ndarray) -> Float[np.ndarray, " N"]:
        scans = np.array([self.trials[row].scan for row in rows])
        values = self.figures[rows, FIGURES.index(name)]
        count = self.above.shape[1]
        return np.array([values[scans == n].mean() if n in scans else np.nan for n in range(count)])


def merged(parts: Sequence[Verdicts]) -> Verdicts:
    """Verdicts of trials that were shared out, such as among folds of left-out families.

    Args:
        parts: of the same test scans; p-values of untouched scans are those of the first.
    """
    return Verdicts(
        tuple(trial for part in parts for trial in part.trials),
        np.concatenate([part.above for part in parts]),
        np.concatenate([part.figures for part in parts]),
        np.concatenate([part.prevalence for part in parts]),
        parts[0].p_values,
        parts[0].calibration_scans,
    )


def judge(
    maps: Maps,
    calibration_volumes: Float[Tensor, "M 1 X Y Z"],
    test_volumes: Float[Tensor, "N 1 X Y Z"],
    trials: Sequence[Trial],
    combinations: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    batch: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Verdicts]:
    """Runs scorers that have learned over planted lesions.

    Mean and spread of the maps, the thresholds and the p-values come from calibration scans alone.

    Args:
        maps: gives maps (B, 1, X, Y, Z), by name, of volumes.
        calibration_volumes: healthy, in [-1, 1], not trained on.
        test_volumes: healthy, of other subjects again.
        trials: lesions to plant into the test volumes.
        combinations: which maps are combined, by the name of the result; each alone unless given.
        seed: of the lesions.
        batch: volumes mapped at a time.
        progress: told how many of how many trials are done.

    Returns:
        Verdicts of every combination, all from the same maps of the same lesions.
    """
    parts = [maps(part) for part in calibration_volumes.split(batch)]
    raw = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    chosen = combinations or {name: (name,) for name in raw}
    judges = {
        name: _Judge({n: raw[n] for n in members}, calibration_volumes)
        for name, members in chosen.items()
    }
    for part in test_volumes.split(batch):
        found = maps(part)
        for one in judges.values():
            one.healthy(found, part)
    for start in range(0, len(trials), batch):
        some = trials[start : start + batch]
        made = [planted(test_volumes, trial, seed) for trial in some]
        found = maps(torch.from_numpy(np.stack([p.volume for p in made]))[:, None])
        for one in judges.values():
            one.lesioned(found, made, [test_volumes[t.scan, 0] for t in some])
        progress(start + len(some), len(trials))
    return {name: one.verdicts(trials) for name, one in judges.items()}


class _Judge:
    """Collects what becomes of one combination of maps.

    Args:
        raw: maps of the calibration scans, by name.
        volumes: these scans.
    """

    def __init__(self, raw: dict[str, Tensor], volumes: Tensor) -> None:
        scoring_config = ScoringConfig(tuple(raw), TOP)
        self._calibration = calibrate(raw, scoring_config)
        left_out = [mean_map(maps.values()) for maps in left_out_maps(raw, scoring_config)]
        voxels = _voxels(torch.cat(left_out).numpy(), volumes)
        self._threshold = float(np.quantile(voxels, 1 - FALSE_VOXELS))
        self._healthy_scores: list[float] = []
        self._healthy_maps: list[np.ndarray] = []
        self._voxels: list[np.ndarray] = []
        self._thresholds = np.zeros(0)
        self._parts = np.zeros(0)
        self._above: list[np.ndarray] = []
        self._rows: list[tuple[float, ...]] = []

    def healthy(self, found: dict[str, Tensor], volumes: Tensor) -> None:
        """Takes the maps of untouched test scans."""
        scores, maps = self._scored(found)
        self._healthy_scores += scores.tolist()
        self._healthy_maps += list(maps)
        self._voxels.append(_voxels(maps[:, None], volumes))

    def lesioned(
        self, found: dict[str, Tensor], made: Sequence[Planted], untouched: Sequence[Tensor]
    ) -> None:
        """Takes the maps of scans with lesions."""
        if not len(self._thresholds):
            self._thresholds = few_false_voxels(np.concatenate(self._voxels))
            self._parts = few_false_parts(self._healthy_maps)
        healthy = np.array(self._healthy_scores)
        for score, score_map, one, before in zip(
            *self._scored(found), made, untouched, strict=True
        ):
            self._above.append((score > healthy) + 0.5 * (score == healthy))
            if not one.truth.any():  # a sham
                self._rows.append((float("nan"),) * 5)
                continue
            within = (before.numpy() > AIR) | one.truth
            self._rows.append(
                (
                    voxel_average_precision(score_map, one.truth, within),
                    dice((score_map > self._threshold) & within, one.truth),
                    region_overlap(score_map, one.truth, self._thresholds),
                    float((score_map[one.truth].max() > self._parts).mean()),
                    float(one.truth[within].mean()),
                )
            )

    def verdicts(self, trials: Sequence[Trial]) -> Verdicts:
        """All of it."""
        rows = np.array(self._rows)
        p_values = [self._calibration.p_value(score) for score in self._healthy_scores]
        return Verdicts(
            tuple(trials), np.array(self._above), rows[:, :4], rows[:, 4], np.array(p_values),
            len(self._calibration.scores),
        )  # fmt: skip

    def _scored(self, found: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Scan scores (B,) and standardised maps (B, X, Y, Z)."""
        named = {name: found[name] for name in self._calibration.statistics}
        scores, maps, _ = self._calibration.score(named)
        return scores.numpy(), maps[:, 0].numpy()


def _voxels(maps: np.ndarray, volumes: Tensor) -> np.ndarray:
    """All foreground voxels of some maps."""
    return maps[volumes.numpy() > AIR]
