"""A scorer on trial: planted lesions in test scans, everything it needs to know from others."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.data.lesions import FAMILIES, SHAM, STRENGTHS, Planted, plant
from medgan.evaluation.detection import (
    Froc,
    Interval,
    by_subject,
    dice,
    false_alarm_interval,
    few_false_voxels,
    froc,
    region_overlap,
    voxel_average_precision,
)
from medgan.scoring.calibration import Calibration, calibrate, statistics
from medgan.scoring.simple import Scorer

RADII = (3.0, 4.5, 6.0)
TOP = 0.01
FALSE_VOXELS = 0.01
"""Share of voxels of healthy calibration scans above the threshold that Dice is measured at."""
FEWEST_FOR_5_PERCENT = 19


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
) -> list[Trial]:
    """Every scan with every kind of lesion."""
    return [Trial(*t) for t in itertools.product(range(scans), families, radii, contrasts)]


def planted(volumes: Float[Tensor, "N 1 X Y Z"], trial: Trial, seed: int) -> Planted:
    """The scan of a trial with its lesion: a function of the trial and the seed alone.

    Foreign tissue comes from the next scan.
    """
    family = (*FAMILIES, SHAM).index(trial.family)
    where = [seed, trial.scan, family, round(10 * trial.radius), *trial.contrast.encode()]
    healthy, donor = (volumes[(trial.scan + n) % len(volumes), 0].numpy() for n in (0, 1))
    strength, rng = STRENGTHS[trial.contrast], np.random.default_rng(where)
    return plant(healthy, donor, trial.family, trial.radius, strength, rng)


@dataclass(frozen=True)
class Verdicts:
    """What a scorer made of the test scans, untouched and with lesions.

    Attributes:
        trials: one for each row below.
        scores: (T,) of the scans with lesions.
        healthy_scores: (N,) of the same scans untouched.
        p_values: (N,) of these.
        precision: (T,) average precision over voxels.
        prevalence: (T,) share of lesion among them, which is that by chance.
        dice: (T,) at the threshold that calibration scans gave.
        overlap: (T,) of `region_overlap`.
        froc: over all trials.
    """

    trials: tuple[Trial, ...]
    scores: np.ndarray
    healthy_scores: np.ndarray
    p_values: np.ndarray
    precision: np.ndarray
    prevalence: np.ndarray
    dice: np.ndarray
    overlap: np.ndarray
    froc: Froc

    def chosen(self, **asked: object) -> np.ndarray:
        """Numbers of the trials with these values, as family="noise"."""
        rows = [all(getattr(t, k) == v for k, v in asked.items()) for t in self.trials]
        return np.flatnonzero(rows)

    def auroc(self, rows: np.ndarray, healthy: np.ndarray | None = None) -> float:
        """Chance that a scan with a lesion scores above a healthy one, the mean over families.

        Args:
            rows: of trials.
            healthy: of scans; all of them unless given.
        """
        others = self.healthy_scores if healthy is None else self.healthy_scores[healthy]
        families = np.array([self.trials[row].family for row in rows])
        found = []
        for family in np.unique(families):
            scores = self.scores[rows[families == family]]
            above = (scores[:, None] > others).mean() + (scores[:, None] == others).mean() / 2
            found.append(above)
        return float(np.mean(found)) if found else float("nan")

    def auroc_interval(self, rows: np.ndarray, draws: int = 1000) -> Interval:
        """With the interval of drawing test scans again, lesions and all."""
        scans = np.array([self.trials[row].scan for row in rows])

        def statistic(drawn: np.ndarray) -> float:
            return self.auroc(rows[drawn], scans[drawn])

        return by_subject([str(s) for s in scans], statistic, draws)


def judge(
    scorer: Scorer,
    calibration_volumes: Float[Tensor, "M 1 X Y Z"],
    test_volumes: Float[Tensor, "N 1 X Y Z"],
    trials: Sequence[Trial],
    seed: int = 0,
    batch: int = 8,
) -> Verdicts:
    """Runs a scorer that has learned over planted lesions.

    Mean and spread of its maps, the threshold and the p-values come from calibration scans alone.

    Args:
        scorer: fitted.
        calibration_volumes: healthy, in [-1, 1], not trained on.
        test_volumes: healthy, of other subjects again.
        trials: lesions to plant into the test volumes.
        seed: of the lesions.
        batch: volumes mapped at a time.
    """
    raw = torch.cat([scorer.map(part) for part in calibration_volumes.split(batch)])
    calibration = calibrate({"map": raw}, TOP)
    foreground = [v[0].numpy() > -0.9 for v in test_volumes]
    crossed = _left_out(raw)
    threshold = float(np.quantile(_voxels(crossed, calibration_volumes), 1 - FALSE_VOXELS))
    healthy, healthy_maps = _scored(scorer, calibration, test_volumes, batch)
    thresholds = few_false_voxels(_voxels(healthy_maps, test_volumes))

    rows: list[tuple[float, ...]] = []
    peaks: list[float] = []
    for part in _batches(trials, batch):
        made = [planted(test_volumes, trial, seed) for trial in part]
        volumes = torch.from_numpy(np.stack([p.volume for p in made]))[:, None]
        scores, maps = _scored(scorer, calibration, volumes, batch)
        for trial, one, score, score_map in zip(part, made, scores, maps[:, 0], strict=True):
            if trial.family == SHAM:
                rows.append((float(score), *[float("nan")] * 4))
                peaks.append(-float("inf"))
                continue
            within = foreground[trial.scan] | one.truth
            rows.append(
                (
                    float(score),
                    voxel_average_precision(score_map, one.truth, within),
                    float(one.truth[within].mean()),
                    dice((score_map > threshold) & within, one.truth),
                    region_overlap(score_map, one.truth, thresholds),
                )
            )
            peaks.append(float(score_map[one.truth].max()))
    scores, precision, prevalence, overlaps, regions = np.array(rows).T
    return Verdicts(
        tuple(trials), scores, healthy,
        np.array([calibration.p_value(float(s)) for s in healthy]),
        precision, prevalence, overlaps, regions,
        froc([m[0] for m in healthy_maps], peaks),
    )  # fmt: skip


def false_alarms(verdicts: Verdicts, rate: float) -> Interval:
    """Share of healthy test scans below a p-value, with its binomial interval."""
    return false_alarm_interval(int((verdicts.p_values <= rate).sum()), len(verdicts.p_values))


def paired_difference(
    ours: Verdicts, other: Verdicts, rows: np.ndarray, draws: int = 1000
) -> Interval:
    """By how much one scorer's AUROC is above another's, on the same draws of test scans."""
    scans = np.array([ours.trials[row].scan for row in rows])

    def statistic(drawn: np.ndarray) -> float:
        mine = ours.auroc(rows[drawn], scans[drawn])
        return mine - other.auroc(rows[drawn], scans[drawn])

    return by_subject([str(s) for s in scans], statistic, draws)


def _scored(
    scorer: Scorer, calibration: Calibration, volumes: Tensor, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scan scores (N,) and standardised maps (N, 1, X, Y, Z)."""
    scores, maps = [], []
    for part in volumes.split(batch):
        score, standardised, _ = calibration.score({"map": scorer.map(part)})
        scores.append(score)
        maps.append(standardised)
    return torch.cat(scores).numpy(), torch.cat(maps).numpy()


def _left_out(raw: Tensor) -> np.ndarray:
    """Each calibration map standardised by all the others."""
    kept = torch.ones(len(raw), dtype=torch.bool)
    maps = []
    for number, one in enumerate(raw):
        kept[number] = False
        maps.append(statistics(raw[kept]).standardise(one[None]))
        kept[number] = True
    return torch.cat(maps).numpy()


def _voxels(maps: np.ndarray, volumes: Tensor) -> np.ndarray:
    """All foreground voxels of some maps."""
    return maps[volumes.numpy() > -0.9]


def _batches(trials: Sequence[Trial], size: int) -> Iterator[Sequence[Trial]]:
    for start in range(0, len(trials), size):
        yield trials[start : start + size]
