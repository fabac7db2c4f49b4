import numpy as np
import pytest
import torch

from medgan.data.lesions import FAMILIES, SHAM
from medgan.evaluation.trials import (
    Trial,
    all_trials,
    false_alarms,
    judge,
    paired_difference,
    planted,
)
from medgan.scoring.simple import Atlas

SHAPE = (24, 24, 24)


def scans(count: int, seed: int) -> torch.Tensor:
    """Balls of smooth tissue in air."""
    random = torch.Generator().manual_seed(seed)
    coarse = 0.3 * torch.randn(count, 1, 6, 6, 6, generator=random)
    volumes = torch.nn.functional.interpolate(coarse, size=SHAPE, mode="trilinear")
    places = torch.stack(torch.meshgrid(*[torch.arange(24.0) - 11.5] * 3, indexing="ij"))
    volumes = volumes.clamp(-0.8, 0.8)
    volumes[:, :, places.norm(dim=0) > 11] = -1
    return volumes


def blind(volumes):
    """Sees nothing."""
    return {"map": 1e-3 * torch.rand(volumes.shape)}


def seeing(healthy):
    """Knows the healthy scans by heart, and so every change."""
    known = torch.cat(healthy)

    def maps(volumes):
        nearest = torch.stack([(known - v).abs().flatten(1).sum(1).argmin() for v in volumes])
        return {"map": (volumes - known[nearest]).abs()}

    return maps


@pytest.fixture(scope="module")
def healthy():
    return scans(6, 1), scans(8, 2)


def trials():
    return all_trials(8, ("brighter", "fill"), (3.0,), ("strong",))


def test_every_scan_meets_every_kind_of_lesion():
    assert len(all_trials(3)) == 3 * len(FAMILIES) * 3 * 2


def test_a_trial_is_a_function_of_itself_and_the_seed(healthy):
    one = Trial(2, "noise", 3.0, "strong")
    volumes = healthy[1]
    assert np.array_equal(planted(volumes, one, 0).volume, planted(volumes, one, 0).volume)
    assert planted(volumes, one, 0).centre != planted(volumes, one, 1).centre


def test_who_sees_every_change_finds_every_lesion(healthy):
    calibration, test = healthy
    verdicts = judge(seeing(healthy), calibration, test, trials())["map"]
    rows = np.arange(len(verdicts.trials))
    assert verdicts.auroc(rows) == 1
    assert verdicts.precision.mean() > 0.9
    assert verdicts.overlap.mean() > 0.9
    assert verdicts.dice.mean() > 0.5
    assert verdicts.froc.at(0.125) == 1


def test_who_sees_nothing_is_at_chance(healthy):
    verdicts = judge(blind, *healthy, trials())["map"]
    rows = np.arange(len(verdicts.trials))
    assert 0.2 < verdicts.auroc(rows) < 0.8
    assert verdicts.precision.mean() < 3 * verdicts.prevalence.mean()
    interval = verdicts.auroc_interval(rows, draws=100)
    assert interval.low < interval.value < interval.high


def test_a_sham_is_found_as_often_as_not(healthy):
    scorer = Atlas()
    scorer.fit(scans(12, 3))
    shams = all_trials(8, (SHAM,), (3.0,), ("strong",))
    verdicts = judge(lambda v: {"map": scorer.map(v)}, *healthy, shams)["map"]
    assert verdicts.auroc(np.arange(8)) == 0.5


def test_one_that_sees_is_ahead_of_one_that_does_not_on_the_same_draws(healthy):
    one, other = (judge(m, *healthy, trials())["map"] for m in (seeing(healthy), blind))
    difference = paired_difference(one, other, np.arange(len(one.trials)), draws=100)
    assert difference.low > 0


def test_false_alarms_are_counted_among_untouched_scans(healthy):
    verdicts = judge(blind, *healthy, trials())["map"]
    alarms = false_alarms(verdicts, 1.0)
    assert alarms.value == alarms.high == 1
    assert false_alarms(verdicts, 0.0).value == 0


def test_combinations_are_judged_from_the_same_maps(healthy):
    def maps(volumes):
        return seeing(healthy)(volumes) | {"noise": blind(volumes)["map"]}

    both = {"both": ("map", "noise"), "map": ("map",)}
    verdicts = judge(maps, *healthy, trials(), both)
    alone = judge(seeing(healthy), *healthy, trials())["map"]
    assert np.allclose(verdicts["map"].scores, alone.scores)
    assert not np.allclose(verdicts["both"].scores, alone.scores, rtol=1e-3)
    assert set(verdicts) == {"both", "map"}
