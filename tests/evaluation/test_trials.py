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


class Blind:
    """Sees nothing."""

    def fit(self, volumes):
        pass

    def map(self, volumes):
        return torch.zeros_like(volumes) + 1e-3 * torch.rand(volumes.shape)


class Seeing:
    """Knows the healthy scans by heart, and so every change."""

    def __init__(self, healthy):
        self.healthy = healthy

    def fit(self, volumes):
        pass

    def map(self, volumes):
        nearest = torch.stack(
            [(self.healthy - v).abs().flatten(1).sum(1).argmin() for v in volumes]
        )
        return (volumes - self.healthy[nearest]).abs()


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
    verdicts = judge(Seeing(torch.cat(healthy)), calibration, test, trials())
    rows = np.arange(len(verdicts.trials))
    assert verdicts.auroc(rows) == 1
    assert verdicts.precision.mean() > 0.9
    assert verdicts.overlap.mean() > 0.9
    assert verdicts.dice.mean() > 0.5
    assert verdicts.froc.at(0.125) == 1


def test_who_sees_nothing_is_at_chance(healthy):
    verdicts = judge(Blind(), *healthy, trials())
    rows = np.arange(len(verdicts.trials))
    assert 0.2 < verdicts.auroc(rows) < 0.8
    assert verdicts.precision.mean() < 3 * verdicts.prevalence.mean()
    interval = verdicts.auroc_interval(rows, draws=100)
    assert interval.low < interval.value < interval.high


def test_a_sham_is_found_as_often_as_not(healthy):
    scorer = Atlas()
    scorer.fit(scans(12, 3))
    verdicts = judge(scorer, *healthy, all_trials(8, (SHAM,), (3.0,), ("strong",)))
    assert verdicts.auroc(np.arange(8)) == 0.5


def test_one_that_sees_is_ahead_of_one_that_does_not_on_the_same_draws(healthy):
    seeing = judge(Seeing(torch.cat(healthy)), *healthy, trials())
    blind = judge(Blind(), *healthy, trials())
    difference = paired_difference(seeing, blind, np.arange(len(seeing.trials)), draws=100)
    assert difference.low > 0


def test_false_alarms_are_counted_among_untouched_scans(healthy):
    verdicts = judge(Blind(), *healthy, trials())
    alarms = false_alarms(verdicts, 1.0)
    assert alarms.value == alarms.high == 1
    assert false_alarms(verdicts, 0.0).value == 0
