from collections import Counter

import numpy as np
import pytest
import torch

from medgan.anomaly.simple import Atlas
from medgan.data.lesions import CONTROL, FAMILIES
from medgan.studies.detection.protocol import all_lesions, evaluate, lesioned_scan
from medgan.studies.detection.results import Lesion, Results, merge

SHAPE = (24, 24, 24)


def scans(count: int, seed: int) -> torch.Tensor:
    """Balls of smooth tissue in air."""
    random = torch.Generator().manual_seed(seed)
    coarse = 0.3 * torch.randn(count, 1, 6, 6, 6, generator=random)
    volumes = torch.nn.functional.interpolate(coarse, size=SHAPE, mode="trilinear")
    positions = torch.stack(torch.meshgrid(*[torch.arange(24.0) - 11.5] * 3, indexing="ij"))
    volumes = volumes.clamp(-0.8, 0.8)
    volumes[:, :, positions.norm(dim=0) > 11] = -1
    return volumes


def noise_maps(seed: int):
    """Maps that do not depend on the scan."""
    random = torch.Generator().manual_seed(seed)
    return lambda volumes: {"map": 1e-3 * torch.rand(volumes.shape, generator=random)}


def change_maps(healthy):
    """Maps of every change from the nearest healthy scan."""
    known = torch.cat(healthy)

    def maps(volumes):
        nearest = torch.stack([(known - v).abs().flatten(1).sum(1).argmin() for v in volumes])
        return {"map": (volumes - known[nearest]).abs()}

    return maps


def subject_maps(healthy, increase=1e-3):
    """A random number for each subject, plus a tiny increase for any change of the scan."""
    known = torch.cat(healthy)
    numbers = torch.rand(len(known), generator=torch.Generator().manual_seed(0))

    def maps(volumes):
        distances = torch.stack([(known - v).abs().flatten(1).sum(1) for v in volumes])
        nearest = distances.min(dim=1)
        level = numbers[nearest.indices] + increase * (nearest.values > 0)
        return {"map": level[:, None, None, None, None].expand(volumes.shape).contiguous()}

    return maps


@pytest.fixture(scope="module")
def healthy():
    return scans(6, 1), scans(8, 2)


def lesions():
    return all_lesions(8, ("brighter", "fill"), (3.0,), ("strong",))


def test_every_scan_gets_every_kind_of_lesion():
    assert len(all_lesions(3)) == 3 * len(FAMILIES) * 3 * 2


def test_sizes_and_contrasts_in_rotation_are_equally_frequent():
    some = all_lesions(12, each=2)
    assert len(set(some)) == len(some) == 12 * len(FAMILIES) * 2
    for family in FAMILIES:
        kinds = Counter((t.radius, t.contrast) for t in some if t.family == family)
        assert set(kinds.values()) == {4}
        assert len(kinds) == 6
    for scan in range(12):
        assert len({t.radius for t in some if t.scan == scan}) == 3
    assert all_lesions(3, each=9) == all_lesions(3)


@pytest.mark.parametrize("families", [("brighter", "fill"), ("brighter", "darker")])
def test_metrics_of_one_size_are_of_the_scans_that_have_it(healthy, families):
    some = all_lesions(8, families, (3.0, 4.0), ("strong",), each=1)
    results = evaluate(change_maps(healthy), *healthy, some)["map"]
    for radius in (3.0, 4.0):
        interval = results.auroc(radius=radius)
        assert (interval.value, interval.low, interval.high) == pytest.approx((1, 1, 1))
        assert 0.9 < results.metric("average_precision", radius=radius).low <= 1


def test_a_lesioned_scan_is_a_function_of_the_lesion_and_the_seed(healthy):
    one = Lesion(2, "noise", 3.0, "strong")
    volumes = healthy[1]
    first, again = (lesioned_scan(volumes, one, 0) for _ in range(2))
    assert np.array_equal(first.volume, again.volume)
    assert first.centre != lesioned_scan(volumes, one, 1).centre


def test_a_scorer_of_every_change_finds_every_lesion(healthy):
    results = evaluate(change_maps(healthy), *healthy, lesions())["map"]
    assert results.auroc().value == results.paired_auroc().value == 1
    assert results.metric("average_precision").value > 0.9
    assert results.metric("region_overlap").value > 0.9
    assert results.metric("dice").value > 0.5
    assert results.metric("sensitivity").value == 1


@pytest.mark.slow
def test_a_scorer_of_noise_is_at_chance(healthy):
    several = [evaluate(noise_maps(seed), *healthy, lesions())["map"] for seed in range(12)]
    intervals = [results.auroc() for results in several]
    # The AUROC of eight scans has a standard deviation of 0.14, the mean of twelve of 0.04.
    assert 0.4 < np.mean([i.value for i in intervals]) < 0.62
    assert sum(i.low <= 0.5 <= i.high for i in intervals) >= 8
    precision = np.mean([v.metric("average_precision").value for v in several])
    assert precision < 2 * several[0].prevalence.mean()


def test_a_random_number_a_subject_that_rises_with_any_change_has_an_auroc_of_one_half(healthy):
    """Compared with themselves, too, scans with lesions would give 0.5 + 0.5 / 8."""
    results = evaluate(subject_maps(healthy), *healthy, lesions())["map"]
    interval = results.auroc()
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))
    assert results.auroc(family="fill").value == pytest.approx(0.5)
    assert results.paired_auroc().value == results.paired_auroc().low == 1
    nothing = evaluate(subject_maps(healthy, increase=0), *healthy, lesions())["map"]
    assert results.auroc_difference(nothing).high == pytest.approx(0)
    assert nothing.paired_auroc().value == 0.5
    assert results.others.mean() == pytest.approx(0.5)


def test_the_auroc_of_some_lesions_leaves_out_the_same_scan_as_well():
    """Scan 0 alone has a lesion; it scores above itself and above one of two others."""
    above = np.array([[1.0, 1.0, 0.0]])
    one = Results(
        (Lesion(0, "fill", 3.0, "strong"),), above, np.zeros((1, 4)), np.zeros(1), np.ones(3), 5
    )
    assert one.auroc().value == 0.5
    assert one.paired_auroc().value == 1


def test_a_control_scores_as_the_same_scan(healthy):
    scorer = Atlas()
    scorer.fit(scans(12, 3))
    controls = all_lesions(8, (CONTROL,), (3.0,), ("strong",))
    results = evaluate(lambda v: {"map": scorer.map(v)}, *healthy, controls)["map"]
    assert results.auroc(family=CONTROL).value == 0.5
    assert results.paired_auroc(family=CONTROL).value == 0.5
    assert len(results.select()) == 0


def test_differences_of_scorers_have_the_sign_of_the_better_one(healthy):
    one, other = (
        evaluate(m, *healthy, lesions())["map"] for m in (change_maps(healthy), noise_maps(0))
    )
    assert one.auroc_difference(other).low > 0
    assert one.metric_difference(other, "average_precision").low > 0
    assert other.auroc_difference(one).high < 0


def test_results_of_folds_are_merged(healthy):
    some, others = ([t for t in lesions() if t.family == f] for f in ("brighter", "fill"))
    maps = change_maps(healthy)
    parts = [evaluate(maps, *healthy, part)["map"] for part in (some, others)]
    whole = evaluate(maps, *healthy, [*some, *others])["map"]
    together = merge(parts)
    assert together.lesions == whole.lesions
    assert together.auroc() == whole.auroc()
    for family in ("brighter", "fill"):
        assert together.auroc(family=family) == whole.auroc(family=family)
    assert len(together.select(family="fill", radius=3.0)) == 8


def test_false_alarms_are_counted_among_scans_without_lesions(healthy):
    results = evaluate(noise_maps(0), *healthy, lesions())["map"]
    alarms = results.false_alarms(1.0)
    assert alarms.value == alarms.high == 1
    assert results.false_alarms(0.0).value == 0


def test_combinations_are_evaluated_from_the_same_maps(healthy):
    def maps(volumes):
        return change_maps(healthy)(volumes) | {"noise": noise_maps(0)(volumes)["map"]}

    both = {"both": ("map", "noise"), "map": ("map",)}
    results = evaluate(maps, *healthy, lesions(), both)
    alone = evaluate(change_maps(healthy), *healthy, lesions())["map"]
    assert np.allclose(results["map"].metrics, alone.metrics)
    assert not np.allclose(results["both"].metrics, alone.metrics, rtol=1e-4)
    assert set(results) == {"both", "map"}
