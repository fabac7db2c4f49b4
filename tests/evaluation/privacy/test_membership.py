import numpy as np
import pytest
import torch
from scipy.stats import norm

from medgan.evaluation.privacy.copies import similarity
from medgan.evaluation.privacy.membership import (
    attack,
    auroc_half_width,
    auroc_interval,
    black_box_scores,
    feature_control,
    mean_by_subject,
    neighbour_control,
)
from medgan.evaluation.probes.two_sample import auroc
from medgan.networks.metrics import band_features
from tests.kit.volumes import subjects


def test_the_interval_of_an_auroc_covers_the_truth_about_95_times_in_100():
    random, shift = torch.Generator().manual_seed(0), 2**0.5 * norm.ppf(0.75)
    covered = 0
    for _ in range(500):
        members, others = (torch.randn(n, generator=random) for n in (20, 40))
        _, low, high = auroc_interval(auroc(members + shift, others), 20, 40)
        covered += low <= 0.75 <= high
    assert 0.92 <= covered / 500 <= 0.985


def test_the_interval_is_the_mirror_image_on_the_other_side_of_chance():
    _, low, high = auroc_interval(0.8, 30, 20)
    assert auroc_interval(0.2, 30, 20) == pytest.approx((0.2, 1 - high, 1 - low), abs=1e-4)


def test_sets_told_apart_perfectly_still_have_an_interval():
    _, low, high = auroc_interval(1.0, 8, 40)
    assert 0.7 < low < 0.9
    assert high == 1.0
    assert auroc_interval(0.0, 8, 40) == pytest.approx((0.0, 0.0, 1 - low), abs=1e-4)


def test_half_widths_are_those_of_the_research_notes():
    # Normal approximation at 0.5: 1.96 / sqrt(6 n) for n of each.
    for count, expected in ((50, 0.113), (100, 0.080), (500, 0.036)):
        assert auroc_half_width(count, count) == pytest.approx(expected, abs=0.004)


def test_an_attack_at_chance_tells_nothing_and_a_perfect_one_finds_everybody():
    scores = torch.randn(200, generator=torch.Generator().manual_seed(0))
    chance, perfect = attack(scores[:100], scores[100:]), attack(scores[:50] + 9, scores[50:])
    assert not chance.succeeds
    assert chance.found < 0.25
    assert perfect.succeeds
    assert perfect.auroc.value == perfect.found == 1.0
    wide = attack(scores[:100], scores[100:], 0.99)
    assert wide.auroc.low < chance.auroc.low < chance.auroc.high < wide.auroc.high


def test_people_count_once_however_many_scans_they_have():
    scores = mean_by_subject(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([7, 7, 2]))
    assert scores.tolist() == [5.0, 2.0]


def test_records_with_a_copy_among_synthetic_scans_score_highest():
    real, fakes = subjects(6, 0), subjects(9, 1)
    fakes[:2] = real[:2]
    for scores in black_box_scores(similarity(real, fakes)).values():
        assert scores[:2].min() > scores[2:].max()


def test_sets_that_differ_are_told_without_a_model_and_alike_ones_are_not():
    volumes, subject = subjects(48, 0, (16, 16, 16)), torch.arange(48)
    member = subject < 24
    alike = feature_control(band_features(volumes), member, subject, draws=4)
    volumes[:24] *= 1.3
    brighter = feature_control(band_features(volumes), member, subject, draws=4)
    assert not alike.succeeds
    assert brighter.succeeds
    assert brighter.auroc.value > 0.95


def test_groups_in_one_set_alone_are_seen_by_their_neighbours():
    alike, subject = symmetric(40, 0), torch.arange(40)
    member = subject < 16
    assert not neighbour_control(alike, member, subject).succeeds
    grouped = alike.clone()
    grouped[:16, :16] += 0.3
    found = neighbour_control(grouped, member, subject)
    assert found.succeeds
    assert found.auroc.value > 0.95


def test_the_interval_of_neighbours_knows_that_all_are_compared_with_the_same_people():
    # In few dimensions some are near to everybody, and the scores of all depend on who they are.
    place, subject = (
        torch.randn(40, 2, generator=torch.Generator().manual_seed(0)),
        torch.arange(40),
    )
    found = neighbour_control(-torch.cdist(place, place) / 10, subject < 20, subject)
    assert not found.succeeds
    assert found.auroc.high - found.auroc.low > 1.2 * 2 * auroc_half_width(20, 20)


def symmetric(count, seed):
    random = np.random.default_rng(seed)
    alike = torch.from_numpy(random.uniform(0, 0.5, (count, count))).float()
    return (alike + alike.T) / 2
