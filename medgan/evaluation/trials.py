"""A scorer on trial: planted lesions in test scans, everything it needs to know from others."""

import itertools
from collections.abc import Callable, Mapping, Sequence
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
from medgan.scoring.calibration import calibrate, statistics

Maps = Callable[[Tensor], dict[str, Tensor]]
AIR = -0.9
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
        self._calibration = calibrate(raw, TOP)
        left_out = torch.stack([_left_out(m) for m in raw.values()]).mean(dim=0).numpy()
        self._threshold = float(np.quantile(_voxels(left_out, volumes), 1 - FALSE_VOXELS))
        self._healthy_scores: list[float] = []
        self._healthy_maps: list[np.ndarray] = []
        self._voxels: list[np.ndarray] = []
        self._thresholds = np.zeros(0)
        self._rows: list[tuple[float, ...]] = []
        self._peaks: list[float] = []

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
        for score, score_map, one, before in zip(
            *self._scored(found), made, untouched, strict=True
        ):
            if not one.truth.any():  # a sham
                self._rows.append((float(score), *[float("nan")] * 4))
                self._peaks.append(-float("inf"))
                continue
            within = (before.numpy() > AIR) | one.truth
            self._rows.append(
                (
                    float(score),
                    voxel_average_precision(score_map, one.truth, within),
                    float(one.truth[within].mean()),
                    dice((score_map > self._threshold) & within, one.truth),
                    region_overlap(score_map, one.truth, self._thresholds),
                )
            )
            self._peaks.append(float(score_map[one.truth].max()))

    def verdicts(self, trials: Sequence[Trial]) -> Verdicts:
        """All of it."""
        scores, precision, prevalence, overlaps, regions = np.array(self._rows).T
        return Verdicts(
            tuple(trials), scores, np.array(self._healthy_scores),
            np.array([self._calibration.p_value(s) for s in self._healthy_scores]),
            precision, prevalence, overlaps, regions,
            froc(self._healthy_maps, self._peaks),
        )  # fmt: skip

    def _scored(self, found: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Scan scores (B,) and standardised maps (B, X, Y, Z)."""
        named = {name: found[name] for name in self._calibration.statistics}
        scores, maps, _ = self._calibration.score(named)
        return scores.numpy(), maps[:, 0].numpy()


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


def _left_out(raw: Tensor) -> Tensor:
    """Each calibration map standardised by all the others."""
    kept = torch.ones(len(raw), dtype=torch.bool)
    maps = []
    for number, one in enumerate(raw):
        kept[number] = False
        maps.append(statistics(raw[kept]).standardise(one[None]))
        kept[number] = True
    return torch.cat(maps)


def _voxels(maps: np.ndarray, volumes: Tensor) -> np.ndarray:
    """All foreground voxels of some maps."""
    return maps[volumes.numpy() > AIR]
