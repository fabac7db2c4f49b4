import numpy as np
import pytest
import torch

from medgan.anomaly import calibration as room
from medgan.anomaly.calibration import ScoringConfig, calibrate, conformal_p_value, statistics
from medgan.anomaly.maps import top_mean
from medgan.core.errors import ConfigError, DataError

SHAPE = (6, 5, 4)
TOP = 0.05
CONFIG = ScoringConfig(("residual", "features"), TOP)


def healthy(count, generator):
    """Two maps a scan, with a level of its own for every scan and voxel noise that varies."""
    spread = torch.linspace(0.5, 2.0, 120).view(SHAPE)
    level = 0.5 * torch.randn(count, 1, 1, 1, 1, generator=generator)
    noise = torch.randn(2, count, 1, *SHAPE, generator=generator) * spread
    return {"residual": (noise[0] + level).abs(), "features": (noise[1] + level).square()}


def false_alarms(count, alphas, repeats=120, fresh=20):
    """Share of fresh healthy scans with p <= alpha, a calibration set: (repeats, alphas)."""
    shares = []
    for seed in range(repeats):
        generator = torch.Generator().manual_seed(seed)
        calibration = calibrate(healthy(count, generator), CONFIG)
        scores, _, _ = calibration.score(healthy(fresh, generator))
        p = np.array([calibration.p_value(float(s)) for s in scores])
        shares.append([(p <= alpha).mean() for alpha in alphas])
    return np.array(shares)


def test_p_values_of_fresh_healthy_scans_are_uniform_and_not_too_small():
    alphas = np.array([0.1, 0.2, 0.5, 0.8])
    shares = false_alarms(19, alphas)
    noise = 3 * shares.std(axis=0) / len(shares) ** 0.5
    assert (noise < 0.08).all()
    assert (shares.mean(axis=0) <= alphas + noise).all()
    assert (shares.mean(axis=0) >= 0.6 * alphas - noise).all()


def test_p_values_would_be_too_small_without_leaving_the_scored_scan_out(monkeypatch):
    def with_itself(score_map, even):
        yield from statistics(score_map, even).standardise(score_map).split(1)

    monkeypatch.setattr(room, "_left_out", with_itself)
    alphas = np.array([0.1, 0.2])
    shares = false_alarms(19, alphas, repeats=60)
    noise = 3 * shares.std(axis=0) / len(shares) ** 0.5
    assert (shares.mean(axis=0) > alphas + noise).all()


def test_conformal_p_values_of_exchangeable_scores_have_their_exact_distribution(rng):
    scores = rng.normal(size=(20_000, 10))
    p = [conformal_p_value(row[0], row[1:].tolist()) for row in scores]
    values, counts = np.unique(p, return_counts=True)
    assert np.allclose(values, np.arange(1, 11) / 10)
    assert np.allclose(counts, 2000, atol=4 * (20_000 * 0.09) ** 0.5)


@pytest.mark.parametrize(("chosen_on", "uniform"), [("validation", True), ("calibration", False)])
def test_p_values_are_uniform_only_if_weights_are_not_chosen_on_calibration_scans(
    chosen_on, uniform, rng
):
    """Sixteen equally good sets of weights; the one with the lowest mean score is chosen."""
    p_values = []
    for _ in range(1500):
        scores = rng.normal(size=45) + rng.normal(size=(16, 45))
        names = ("calibration", "validation", "fresh")
        sets = dict(zip(names, np.split(scores, [19, 38], axis=1), strict=True))
        best = sets[chosen_on].mean(axis=1).argmin()
        known = sets["calibration"][best].tolist()
        p_values.append([conformal_p_value(float(s), known) for s in sets["fresh"][best]])
    alarms = (np.array(p_values) <= 0.1).mean(axis=1)
    error = alarms.std() / len(alarms) ** 0.5
    assert (abs(alarms.mean() - 0.1) < 3 * error) == uniform
    assert (alarms.mean() > 0.13) != uniform


def test_conformal_p_values_fall_as_the_score_rises_and_count_ties_against_it():
    scores = [1.0, 2.0, 2.0, 3.0]
    p = [conformal_p_value(s, scores) for s in (0.0, 1.0, 2.0, 2.5, 3.0, 9.0)]
    assert p == pytest.approx([1.0, 1.0, 0.8, 0.4, 0.4, 0.2])


def test_fewer_than_five_healthy_scans_are_refused(generator):
    with pytest.raises(DataError, match="4 healthy scans") as caught:
        calibrate(healthy(4, generator), CONFIG)
    assert caught.value.code == "E_CALIBRATION"
    assert len(calibrate(healthy(5, generator), CONFIG).scores) == 5


def test_statistics_are_mean_and_spread_at_every_position(generator):
    maps = torch.rand(6, 1, *SHAPE, generator=generator) + 1
    found = statistics(maps)
    assert found.mean.shape == found.spread.shape == (1, *SHAPE)
    assert np.allclose(found.mean, maps.numpy().mean(axis=0), atol=1e-6)
    spread = maps.numpy().std(axis=0, ddof=1)
    free = spread > 0.3 * spread.mean()
    assert np.allclose(found.spread.numpy()[free], spread[free], atol=1e-6)
    standard = found.standardise(maps)
    assert torch.allclose(standard.mean(dim=0), torch.zeros(()), atol=1e-5)


def test_the_spread_has_a_floor_where_healthy_scans_agree(generator):
    maps = torch.rand(8, 1, *SHAPE, generator=generator)
    maps[:, :, :2] = 0.125
    found = statistics(maps)
    raw = maps.std(dim=0)
    assert torch.allclose(found.spread[:, :2], 0.25 * raw.mean())
    assert torch.equal(found.spread[:, 2:], raw[:, 2:].clamp(min=0.25 * float(raw.mean())))
    assert torch.isfinite(found.standardise(maps + 1)).all()


def test_identical_healthy_scans_still_give_finite_scores():
    calibration = calibrate({"residual": torch.zeros(5, 1, *SHAPE)}, CONFIG)
    score, _, _ = calibration.score({"residual": torch.full((1, 1, *SHAPE), 0.01)})
    assert torch.isfinite(score).all()
    assert score.item() > 0


def test_calibration_scores_are_sorted_and_centred(generator):
    calibration = calibrate(healthy(9, generator), CONFIG)
    assert list(calibration.scores) == sorted(calibration.scores)
    assert np.mean(calibration.scores) == pytest.approx(0, abs=1e-5)
    assert calibration.p_value(1e9) == pytest.approx(1 / 10)
    assert calibration.p_value(-1e9) == 1


def test_a_calibration_scan_is_scored_by_the_statistics_of_the_others(generator):
    maps = healthy(6, generator)["residual"]
    left_out = [
        top_mean(statistics(torch.cat([maps[:i], maps[i + 1 :]])).standardise(maps[i : i + 1]), TOP)
        for i in range(6)
    ]
    calibration = calibrate({"residual": maps}, CONFIG)
    scores = torch.cat(left_out)
    assert calibration.centres["residual"] == pytest.approx(scores.mean().item(), rel=1e-5)
    assert calibration.scales["residual"] == pytest.approx(scores.std().item(), rel=1e-5)
    expected = (scores - scores.mean()) / scores.std()
    assert np.allclose(calibration.scores, expected.sort().values, atol=1e-5)


def test_the_combined_score_and_map_are_means_over_maps(generator):
    calibration = calibrate(healthy(8, generator), CONFIG)
    fresh = healthy(3, generator)
    combined, score_map, parts = calibration.score(fresh)
    assert combined.shape == (3,)
    assert score_map.shape == (3, 1, *SHAPE)
    assert torch.allclose(combined, (parts["residual"] + parts["features"]) / 2)
    standard = [calibration.statistics[n].standardise(m) for n, m in fresh.items()]
    assert torch.allclose(score_map, sum(standard) / 2, atol=1e-6)
    alone = [calibration.score({n: m[i : i + 1] for n, m in fresh.items()})[0] for i in range(3)]
    assert torch.allclose(combined, torch.cat(alone), atol=1e-5)


def test_a_planted_bump_raises_the_score_with_its_height_and_the_map_peaks_there(generator):
    calibration = calibrate(healthy(12, generator), CONFIG)
    scan = healthy(1, generator)
    scores, heights = [], (0.0, 10.0, 20.0, 40.0, 80.0)
    for height in heights:
        bumped = {name: score_map.clone() for name, score_map in scan.items()}
        for score_map in bumped.values():
            score_map[0, 0, 4, 1, 2] += height
        score, combined_map, _ = calibration.score(bumped)
        scores.append(score.item())
    assert scores == sorted(scores)
    assert len(set(scores)) == len(heights)
    peak = torch.unravel_index(combined_map[0, 0].argmax(), SHAPE)
    assert tuple(int(i) for i in peak) == (4, 1, 2)
    assert calibration.p_value(scores[-1]) == pytest.approx(1 / 13)


@pytest.mark.parametrize("name", ["localiser", "restoration"])
def test_an_even_map_has_one_mean_and_one_spread_for_all_positions(name, generator):
    maps = torch.rand(8, 1, *SHAPE, generator=generator)
    even = statistics(maps, even=True)
    assert len(even.mean.unique()) == 1
    assert even.mean.max() == pytest.approx(float(maps.mean()))
    assert len(even.spread.unique()) == 1
    assert even.spread.max() == pytest.approx(float(maps.std(dim=0).mean()))
    known = calibrate({name: maps}, ScoringConfig((name,), TOP)).statistics[name]
    assert len(known.mean.unique()) == len(known.spread.unique()) == 1


def test_one_value_a_scan_counts_in_the_score_and_not_in_the_map(generator):
    maps = healthy(9, generator) | {"latent": torch.rand(9, 1, 1, 1, 1, generator=generator)}
    calibration = calibrate(maps, ScoringConfig(tuple(maps), TOP))
    fresh = healthy(2, generator)
    usual = fresh | {"latent": torch.full((2, 1, 1, 1, 1), 0.5)}
    far = fresh | {"latent": torch.full((2, 1, 1, 1, 1), 9.0)}
    (low, some, _), (high, same, _) = calibration.score(usual), calibration.score(far)
    assert (high > low + 1).all()
    assert torch.equal(some, same)
    alone = {"latent": maps["latent"]}
    with pytest.raises(ConfigError, match="no scorer gives a map") as caught:
        calibrate(alone, ScoringConfig(("latent",), TOP))
    assert caught.value.code == "E_SCORER"


def test_what_a_scan_does_not_show_counts_neither_in_its_score_nor_in_its_map(generator):
    calibration = calibrate(healthy(20, generator), CONFIG)
    maps = healthy(1, generator)
    unseen = torch.zeros(SHAPE, dtype=torch.bool)
    unseen[:2] = True
    usual, _, _ = calibration.score(maps, unseen)
    for one in maps.values():
        one[:, :, unseen] = 1000.0
    score, score_map, _ = calibration.score(maps, unseen)
    assert score.item() == usual.item()
    assert not score_map[:, :, unseen].any()
    assert calibration.score(maps)[0].item() > 100


def test_scores_are_adjusted_for_covariates_where_there_are_any_and_else_stay(generator):
    maps, ages = healthy(30, generator), [20.0 + 2 * n for n in range(30)]
    for score_map in maps.values():
        score_map += 0.2 * torch.tensor(ages).view(-1, 1, 1, 1, 1)
    plain = calibrate(maps, CONFIG)
    assert plain.adjusts == ()
    assert plain.adjusted(1.25, {}) == 1.25
    config = ScoringConfig(CONFIG.scorers, TOP, {"age": "continuous"})
    by_age = calibrate(maps, config, [{"age": age} for age in ages])
    assert by_age.adjusts == ("age",)
    assert by_age.adjusted(1.0, {"age": 75.0}) < 0.5 < 1.0 < by_age.adjusted(1.0, {"age": 25.0})
    assert np.corrcoef(ages, plain.scores)[0, 1] > 0.9  # both rise


def test_the_share_of_voxels_that_score_is_a_hundredth_by_default():
    assert ScoringConfig(("residual",)).top_fraction == 0.01


def test_maps_of_different_scans_are_refused(generator):
    maps = healthy(6, generator)
    with pytest.raises(ValueError, match="zip"):
        calibrate(maps | {"features": maps["features"][:5]}, CONFIG)


@pytest.mark.parametrize(("usual", "bright"), [(0.1, 1e3), (0.3, 1e6)])
def test_rounding_leaves_no_variance_below_zero_beside_one_bright_scan(usual, bright):
    maps = torch.full((7, 1, *SHAPE), usual)
    maps[3] = bright
    assert np.isfinite(calibrate({"residual": maps}, CONFIG).scores).all()


def test_a_map_of_two_voxels_is_a_map(generator):
    maps = {"residual": torch.rand(9, 1, 2, 1, 1, generator=generator)}
    calibration = calibrate(maps, CONFIG)
    _, score_map, _ = calibration.score({"residual": maps["residual"][:1]})
    assert torch.equal(
        score_map, calibration.statistics["residual"].standardise(maps["residual"][:1])
    )
