"""Choice of scorers by what they find in scans with lesions, beside healthy scans."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from medgan.anomaly.calibration import Calibration

Maps = Callable[[Float[Tensor, "B C X Y Z"]], Mapping[str, Tensor]]
"""Raw score maps of volumes, (B, 1, X, Y, Z) on the CPU, by scorer."""
CANDIDATES = ("localiser", "restoration", "density", "darker", "brighter")
"""Scorers that are chosen from. The others were behind these on all lesions that were planted
(docs/explanation/detection.md)."""
_LEAST_GAIN = 0.005
"""By which a further scorer must raise the power. Less is chance."""


@dataclass(frozen=True)
class Trial:
    """A scan with lesions, or a healthy one, as each scorer sees it.

    Attributes:
        scores: of each scorer, in healthy standard deviations.
        maps: standardised, the voxels of the anatomy alone, by scorer.
        truth: where these voxels are lesion; None for a healthy scan.
    """

    scores: dict[str, float]
    maps: dict[str, Float[np.ndarray, " V"]]
    truth: Bool[np.ndarray, " V"] | None = None


@dataclass(frozen=True)
class Choice:
    """The scorers chosen, and how well they and each candidate alone do.

    Attributes:
        scorers: chosen, the most powerful one first.
        power: of the choice.
        alone: power of each candidate, falling.
    """

    scorers: tuple[str, ...]
    power: float
    alone: dict[str, float]

    def text(self) -> str:
        """For a model's card."""
        alone = ", ".join(f"{name} {value:.2f}" for name, value in self.alone.items())
        return f"{' + '.join(self.scorers)} {self.power:.2f} (alone: {alone})"


def make_trial(
    calibration: Calibration,
    maps: Mapping[str, Float[Tensor, "1 1 X Y Z"]],
    anatomy: Bool[np.ndarray, "X Y Z"],
    truth: Bool[np.ndarray, "X Y Z"] | None = None,
) -> Trial:
    """A trial from raw score maps.

    Args:
        calibration: of all candidates.
        maps: by scorer.
        anatomy: voxels that count.
        truth: where a lesion is.
    """
    _, _, parts = calibration.score(maps)
    standardised = {n: calibration.statistics[n].standardise(m) for n, m in maps.items()}
    return Trial(
        {name: float(part[0]) for name, part in parts.items()},
        {n: m[0, 0].numpy()[anatomy].astype(np.float16) for n, m in standardised.items()},
        None if truth is None else truth[anatomy],
    )


def choose(candidates: Sequence[str], healthy: Sequence[Trial], sick: Sequence[Trial]) -> Choice:
    """The scorers whose mean finds most, one added after another while that helps.

    The power of scorers is the mean of two things: the share of healthy scans with lower scores
    than a scan with lesions (AUROC), and the voxel-wise average precision of the map. The choice
    has at least the power of each candidate.

    Args:
        candidates: names of scorers.
        healthy: scans without lesions.
        sick: with lesions.
    """
    alone = {name: power((name,), healthy, sick) for name in candidates}
    alone = dict(sorted(alone.items(), key=lambda item: -item[1]))
    best = max(alone, key=alone.__getitem__)
    chosen, reached = (best,), alone[best]
    while len(chosen) < len(candidates):
        tried = {
            name: power((*chosen, name), healthy, sick) for name in alone if name not in chosen
        }
        best = max(tried, key=tried.__getitem__)
        if tried[best] < reached + _LEAST_GAIN:
            break
        chosen, reached = (*chosen, best), tried[best]
    return Choice(chosen, reached, alone)


def power(names: Sequence[str], healthy: Sequence[Trial], sick: Sequence[Trial]) -> float:
    """Mean of AUROC and average precision of the mean of some scorers; see `choose`."""
    usual = np.array([_score(trial, names) for trial in healthy])
    found = [
        (float((_score(trial, names) > usual).mean()) + _precision(trial, names)) / 2
        for trial in sick
    ]
    return float(np.mean(found))


def _score(trial: Trial, names: Sequence[str]) -> float:
    return float(np.mean([trial.scores[name] for name in names]))


def _precision(trial: Trial, names: Sequence[str]) -> float:
    from sklearn.metrics import average_precision_score  # slow to load; scoring does without

    assert trial.truth is not None
    together = np.mean([trial.maps[name] for name in names], axis=0, dtype=np.float32)
    return float(average_precision_score(trial.truth, together))
