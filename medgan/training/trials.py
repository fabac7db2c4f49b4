"""Validation scans with lesions, on which a model's scorers are chosen."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from medgan.anomaly.calibration import Calibration
from medgan.anomaly.choice import Choice, Maps, Trial, choose, make_trial
from medgan.core.volume import AIR
from medgan.data import lesions
from medgan.training.corruption import SHAPES, as_another_scanner, planted, tissue_depth

MIN_SCANS = 5
"""Fewest validation scans that scorers are chosen on."""
_MOST_SCANS = 12
_EACH = 2
"""Times that a scan is shown with lesions of each kind of `SHAPES`, and twice as often with others.
"""


def choose_scorers(
    maps: Maps,
    calibration: Calibration,
    volumes: Sequence[Float[np.ndarray, "C X Y Z"]],
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Choice:
    """The scorers that find most of what is planted into healthy validation scans.

    Each scan is shown with dark and with bright lesions of real shapes and, about as often, with
    lesions of some of `lesions.FAMILIES`. Every second scan is shown as another
    scanner would show it, healthy and with lesions.

    Args:
        maps: gives raw score maps of volumes, (B, C, X, Y, Z), by scorer.
        calibration: of all these scorers.
        volumes: healthy scans in [-1, 1] that were not trained on; the first dozen are used.
        seed: of the lesions.
        progress: called with how many of how many scans are done.
    """
    volumes = volumes[:_MOST_SCANS]
    healthy: list[Trial] = []
    sick: list[Trial] = []
    for number, volume in enumerate(volumes):
        rng, donor = np.random.default_rng([seed, number]), volumes[number - 1]
        seen = as_another_scanner(volume, rng) if number % 2 else volume
        healthy.append(_trial(maps, calibration, seen, None))
        depths = tissue_depth(seen)
        families = rng.permutation(list(lesions.FAMILIES))[: _EACH * len(SHAPES)].tolist()
        for family in (*families, *(_EACH * [*SHAPES])):
            lesioned, truth = planted(seen, donor, [family], rng, depths)
            if truth.any():
                sick.append(_trial(maps, calibration, lesioned, truth[0]))
        progress(number + 1, len(volumes))
    return choose(tuple(calibration.centres), healthy, sick)


def _trial(
    maps: Maps,
    calibration: Calibration,
    volume: np.ndarray,
    truth: np.ndarray | None,
) -> Trial:
    anatomy: np.ndarray = np.any(volume > AIR, axis=0)
    if truth is not None:
        anatomy |= truth
    found = maps(torch.from_numpy(volume.astype(np.float32))[None])
    return make_trial(calibration, found, anatomy, truth)
