"""Healthy scans made unhealthy, and scans of other scanners, which are healthy."""

import numpy as np
import pytest

from medgan.data.lesions import FAMILIES
from medgan.training.corruption import SHAPES, as_another_scanner, augmented, planted, tissue_depth
from tests.kit.volumes import phantom_volumes


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    return phantom_volumes(2).numpy()


@pytest.mark.parametrize(("family", "sign"), [("dark shape", -1), ("bright shape", 1)])
def test_dark_shapes_darken_and_bright_ones_brighten(
    heads: np.ndarray, family: str, sign: int
) -> None:
    changed = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        corrupted, truth = planted(heads[0], heads[1], [family], rng, tissue_depth(heads[0]))
        difference = (corrupted - heads[0])[truth]
        changed += difference.size
        assert (sign * difference >= 0).all()
    assert changed > 50


def test_half_of_the_scans_get_shapes_where_both_kinds_are_known(heads: np.ndarray) -> None:
    depths = tissue_depth(heads[0])
    families = [*FAMILIES, *SHAPES]
    masks = [
        planted(heads[0], heads[1], families, np.random.default_rng(seed), depths)[1]
        for seed in range(12)
    ]
    assert sum(bool(mask.any()) for mask in masks) >= 6
    same = planted(heads[0], heads[1], families, np.random.default_rng(3), depths)[1]
    assert np.array_equal(same, masks[3])


def test_another_scanner_leaves_air_and_anatomy_where_they_are(heads: np.ndarray) -> None:
    air, differences = heads[0] <= -1, []
    for seed in range(8):
        scan = as_another_scanner(heads[0], np.random.default_rng(seed))
        assert scan.dtype == np.float32
        assert (scan[air] == -1).all()
        assert -1 <= scan.min() <= scan.max() <= 1
        differences.append(float(np.abs(scan - heads[0])[~air].mean()))
        assert np.corrcoef(scan[~air], heads[0][~air])[0, 1] > 0.7
    assert max(differences) > 0.02


def test_scans_that_are_aligned_are_moved_less(heads: np.ndarray) -> None:
    def change(extent: float) -> float:
        moved = [augmented(heads[0], np.random.default_rng(seed), extent) for seed in range(6)]
        return float(np.mean([np.abs(one - heads[0]).mean() for one in moved]))

    assert change(0.4) < 0.9 * change(1.0)
