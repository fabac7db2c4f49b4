from collections import Counter

import numpy as np
import pytest
import torch

from medgan.anomaly.simple import Atlas
from medgan.data.lesions import FAMILIES, SHAM
from medgan.studies.detection.protocol import (
    Trial,
    all_trials,
    judge,
    merged,
    planted,
)

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


def blind(seed: int):
    """Sees nothing, and says of every seed something else."""
    random = torch.Generator().manual_seed(seed)
    return lambda volumes: {"map": 1e-3 * torch.rand(volumes.shape, generator=random)}


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


def test_some_sizes_and_contrasts_each_come_as_often_as_the_others():
    trials = all_trials(12, each=2)
    assert len(set(trials)) == len(trials) == 12 * len(FAMILIES) * 2
    for family in FAMILIES:
        kinds = Counter((t.radius, t.contrast) for t in trials if t.family == family)
        assert set(kinds.values()) == {4}
        assert len(kinds) == 6
    for scan in range(12):
        assert len({t.radius for t in trials if t.scan == scan}) == 3
    assert all_trials(3, each=9) == all_trials(3)


@pytest.mark.parametrize("families", [("brighter", "fill"), ("brighter", "darker")])
def test_figures_of_one_size_are_of_the_scans_that_met_it(healthy, families):
    some = all_trials(8, families, (3.0, 4.0), ("strong",), each=1)
    verdicts = judge(seeing(healthy), *healthy, some)["map"]
    for radius in (3.0, 4.0):
        interval = verdicts.auroc(radius=radius)
        assert (interval.value, interval.low, interval.high) == pytest.approx((1, 1, 1))
        assert 0.9 < verdicts.figure("precision", radius=radius).low <= 1


def test_a_trial_is_a_function_of_itself_and_the_seed(healthy):
    one = Trial(2, "noise", 3.0, "strong")
    volumes = healthy[1]
    assert np.array_equal(planted(volumes, one, 0).volume, planted(volumes, one, 0).volume)
    assert planted(volumes, one, 0).centre != planted(volumes, one, 1).centre


def test_who_sees_every_change_finds_every_lesion(healthy):
    calibration, test = healthy
    verdicts = judge(seeing(healthy), calibration, test, trials())["map"]
    assert verdicts.auroc().value == 1
    assert verdicts.figure("precision").value > 0.9
    assert verdicts.figure("overlap").value > 0.9
    assert verdicts.figure("dice").value > 0.5
    assert verdicts.figure("found").value == 1


def test_who_sees_nothing_is_at_chance(healthy):
    several = [judge(blind(seed), *healthy, trials())["map"] for seed in range(12)]
    intervals = [verdicts.auroc() for verdicts in several]
    # Eight scans scatter by 0.14 from draw to draw; the mean of twelve draws by 0.04.
    assert 0.4 < np.mean([i.value for i in intervals]) < 0.62
    assert sum(i.low <= 0.5 <= i.high for i in intervals) >= 8
    precision = np.mean([v.figure("precision").value for v in several])
    assert precision < 2 * several[0].prevalence.mean()


def test_a_sham_is_found_as_often_as_not(healthy):
    scorer = Atlas()
    scorer.fit(scans(12, 3))
    shams = all_trials(8, (SHAM,), (3.0,), ("strong",))
    verdicts = judge(lambda v: {"map": scorer.map(v)}, *healthy, shams)["map"]
    assert verdicts.auroc(family=SHAM).value == 0.5
    assert len(verdicts.chosen()) == 0


def test_one_that_sees_is_ahead_of_one_that_does_not_on_the_same_draws(healthy):
    one, other = (judge(m, *healthy, trials())["map"] for m in (seeing(healthy), blind(0)))
    assert one.auroc_ahead_of(other).low > 0
    assert one.figure_ahead_of(other, "precision").low > 0
    assert other.auroc_ahead_of(one).high < 0


def test_verdicts_of_folds_come_together(healthy):
    some, others = ([t for t in trials() if t.family == f] for f in ("brighter", "fill"))
    parts = [judge(seeing(healthy), *healthy, part)["map"] for part in (some, others)]
    whole = judge(seeing(healthy), *healthy, [*some, *others])["map"]
    together = merged(parts)
    assert together.trials == whole.trials
    assert together.auroc() == whole.auroc()
    for family in ("brighter", "fill"):
        assert together.auroc(family=family) == whole.auroc(family=family)
    assert len(together.chosen(family="fill", radius=3.0)) == 8


def test_false_alarms_are_counted_among_untouched_scans(healthy):
    verdicts = judge(blind(0), *healthy, trials())["map"]
    alarms = verdicts.false_alarms(1.0)
    assert alarms.value == alarms.high == 1
    assert verdicts.false_alarms(0.0).value == 0


def test_combinations_are_judged_from_the_same_maps(healthy):
    def maps(volumes):
        return seeing(healthy)(volumes) | {"noise": blind(0)(volumes)["map"]}

    both = {"both": ("map", "noise"), "map": ("map",)}
    verdicts = judge(maps, *healthy, trials(), both)
    alone = judge(seeing(healthy), *healthy, trials())["map"]
    assert np.allclose(verdicts["map"].figures, alone.figures)
    assert not np.allclose(verdicts["both"].figures, alone.figures, rtol=1e-4)
    assert set(verdicts) == {"both", "map"}
