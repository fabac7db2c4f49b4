"""False alarms when weights are chosen on the calibration scans, and on validation scans.

Writes the tables of docs/explanation/calibration.md.

    python docs/scripts/selection_simulation.py                       # simulated scores
    python docs/scripts/selection_simulation.py DATA zoo/hippocampus  # and real scans
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import kstest
from torch import Tensor

from medgan.anomaly.calibration import ScoringConfig, calibrate
from medgan.anomaly.maps import residual_map
from medgan.core.config import Preprocessing
from medgan.core.tables import markdown_table
from medgan.data.index import index
from medgan.data.prepared import read_scans
from medgan.data.pseudonyms import Pseudonyms
from medgan.model.model import Model
from medgan.networks.metrics import band_features, kernel_distance

RATES = (0.05, 0.10)
FRESH = 40
CANDIDATES, TRAINING, COMPONENTS = 16, 40, 20


class PValues(NamedTuple):
    """P-values of fresh healthy scans, (repeats, scans), by where weights are chosen."""

    calibration: np.ndarray
    validation: np.ndarray


def simulated(scans: int, candidates: int, repeats: int = 4000, seed: int = 0) -> PValues:
    """P-values with equally good sets of weights, of which one is chosen.

    Scores are normal. Half of the variance is common to all sets of weights, as some scans are
    unusual to any. The set with the lowest mean score is chosen, as by reconstruction error.

    Args:
        scans: number of calibration scans, and of validation scans.
        candidates: number of sets of weights.
        repeats: of the whole experiment.
        seed: of all scores.
    """
    rng = np.random.default_rng(seed)
    found = PValues(np.empty((repeats, FRESH)), np.empty((repeats, FRESH)))
    for repeat in range(repeats):
        common = rng.standard_normal(2 * scans + FRESH)
        scores = common + rng.standard_normal((candidates, 2 * scans + FRESH))
        calibration, validation, fresh = np.split(scores, [scans, 2 * scans], axis=1)
        for p_values, chosen_on in zip(found, (calibration, validation), strict=True):
            best = chosen_on.mean(axis=1).argmin()
            above = np.sort(calibration[best]).searchsorted(fresh[best], side="left")
            p_values[repeat] = (1 + scans - above) / (scans + 1)
    return found


def real(volumes: Tensor, metric: str, repeats: int, seed: int = 0) -> PValues:
    """P-values of real scans, with principal components of training scans for a model.

    Each repeat splits the scans anew: 80 for training, 40 for validation, 40 for calibration, 40
    fresh ones. Each set of weights is learned from a random half of the training scans. The score
    is that of medgan, from residuals.

    Args:
        volumes: 200 healthy scans, (N, 1, X, Y, Z) in [-1, 1].
        metric: by which weights are chosen: `error` of reconstructions, or `kernel` distance of
            samples, as in training.
        repeats: of the whole experiment.
        seed: of the splits.
    """
    rng = np.random.default_rng(seed)
    features = torch.cat([band_features(part) for part in volumes.split(16)])
    found = PValues(np.empty((repeats, FRESH)), np.empty((repeats, FRESH)))
    for repeat in range(repeats):
        order = torch.from_numpy(rng.permutation(len(volumes)))
        train, validation, calibration, fresh = order[:200].split([80, 40, 40, 40])
        models = [_fit(volumes, train, rng) for _ in range(CANDIDATES)]
        for p_values, chosen_on in zip(found, (calibration, validation), strict=True):
            values = [_METRICS[metric](model, volumes, features, chosen_on) for model in models]
            best = models[int(np.argmin(values))]
            known = calibrate({"residual": best.residual(volumes[calibration])}, _CONFIG)
            scores, _, _ = known.score({"residual": best.residual(volumes[fresh])})
            p_values[repeat] = [known.p_value(score) for score in scores.tolist()]
    return found


_CONFIG = ScoringConfig(("residual",))


class _Components(NamedTuple):
    """Mean and principal components of scans, and samples drawn with their variances."""

    mean: Tensor
    rows: Tensor
    samples: Tensor

    def residual(self, volumes: Tensor) -> Tensor:
        centred = volumes.flatten(1) - self.mean
        recon = (centred @ self.rows.T) @ self.rows + self.mean
        return residual_map(volumes, recon.reshape(volumes.shape))


def _fit(volumes: Tensor, train: Tensor, rng: np.random.Generator) -> _Components:
    chosen = volumes[train[torch.from_numpy(rng.permutation(len(train))[:TRAINING])]]
    mean = chosen.flatten(1).mean(dim=0)
    _, sizes, rows = torch.linalg.svd(chosen.flatten(1) - mean, full_matrices=False)
    draws = torch.from_numpy(rng.standard_normal((FRESH, COMPONENTS)).astype(np.float32))
    spread = sizes[:COMPONENTS] / (TRAINING - 1) ** 0.5
    samples = (draws * spread) @ rows[:COMPONENTS] + mean
    samples = samples.clamp(-1, 1).reshape(FRESH, *volumes.shape[1:])
    return _Components(mean, rows[:COMPONENTS], band_features(samples))


_METRICS: dict[str, Callable[[_Components, Tensor, Tensor, Tensor], float]] = {
    "error": lambda model, volumes, features, on: float(model.residual(volumes[on]).mean()),
    "kernel": lambda model, volumes, features, on: float(
        kernel_distance(features[on], model.samples)
    ),
}


def row(found: np.ndarray) -> list[str]:
    """False alarms with 95% intervals over repeats, and the distance of p-values from uniform."""
    cells = []
    for rate in RATES:
        shares = (found <= rate + 1e-12).mean(axis=1)
        half = 1.96 * shares.std() / len(shares) ** 0.5
        cells.append(
            f"{shares.mean():.3f} ({shares.mean() - half:.3f} to {shares.mean() + half:.3f})"
        )
    # P-values are discrete: a uniform number below each step makes them continuous.
    return [*cells, f"{_distance(found):.3f}"]


def _distance(found: np.ndarray, seed: int = 0) -> float:
    step = np.unique(np.diff(np.unique(found)).round(9)).min()
    spread = found.ravel() - step * np.random.default_rng(seed).random(found.size)
    return float(kstest(spread, "uniform").statistic)


def table(name: str, results: dict[str, PValues]) -> str:
    """A Markdown table, two rows a result."""
    head = [name, "chosen on", "alarms at 0.05 (95%)", "alarms at 0.10 (95%)", "KS distance"]
    rows = [
        [key, chosen_on, *row(p_values)]
        for key, found in results.items()
        for chosen_on, p_values in found._asdict().items()
    ]
    return markdown_table(head, rows)


def hippocampi(source: Path, preprocessing: Preprocessing) -> Tensor:
    """All scans of a folder on a model's grid."""
    manifest, _ = index(source, Pseudonyms(b"simulation"))
    with tempfile.TemporaryDirectory() as cache:
        return read_scans(manifest.cases, preprocessing, Path(cache)).images


if __name__ == "__main__":
    grid = {f"{n}, {k}": simulated(n, k) for n in (19, 39, 99) for k in (1, 4, 16, 64)}
    print(table("calibration scans, sets of weights", grid))
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        scans = hippocampi(Path(sys.argv[1]), Model.load(sys.argv[2], "cpu").preprocessing)
        print(table("metric", {name: real(scans, name, 100) for name in _METRICS}))
