"""Healthy scans made unhealthy, and scans of other scanners, which are healthy."""

from collections.abc import Callable

import numpy as np
import pytest

from medgan.data.lesions import FAMILIES
from medgan.training import corruption
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


def test_half_of_the_scans_get_shapes_where_both_kinds_are_known(
    heads: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []
    for name in ("plant_shapes", "plant_several"):
        made = getattr(corruption, name)

        def counted(*given: object, name: str = name, made: Callable = made, **more: object):
            kinds.append(name)
            return made(*given, **more)

        monkeypatch.setattr(corruption, name, counted)
    depths, families = tissue_depth(heads[0]), [*FAMILIES, *SHAPES]
    masks = [
        planted(heads[0], heads[1], families, np.random.default_rng(seed), depths)[1]
        for seed in range(20)
    ]
    assert 5 <= kinds.count("plant_shapes") <= 15
    assert len(kinds) == 20
    same = planted(heads[0], heads[1], families, np.random.default_rng(3), depths)[1]
    assert np.array_equal(same, masks[3])


def test_shapes_lie_in_the_same_places_in_every_channel(heads: np.ndarray) -> None:
    inverted = np.where(heads[0] > -1, -0.9 * heads[0], -1).astype(np.float32)
    scan = np.concatenate([heads[0], inverted])
    seen = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        corrupted, _ = planted(scan, scan, ["bright shape"], rng, tissue_depth(heads[0]))
        one, other = np.abs(corrupted - scan) > 0.02
        if one.sum() > 20 and other.sum() > 20:
            seen += 1
            assert (one & other).sum() > 0.3 * min(one.sum(), other.sum())
    assert seen > 3


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
