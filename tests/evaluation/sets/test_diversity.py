import math

import numpy as np
import pytest
import torch

from medgan.evaluation.sets.diversity import class_score, classify, median_distance, vendi_score
from medgan.evaluation.sets.similarity import mean_similarity, pair_similarities
from medgan.networks.metrics import neighbourhoods, standardised
from tests.kit.volumes import phantom_volumes


def normal(count, seed, shift=0.0, width=4):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=random, dtype=torch.float64) + shift


def by_hand(real, fake, k):
    """PRDC written out point by point, from the definitions of the papers."""
    real, fake = real.tolist(), fake.tolist()

    def reach(point, own):
        return sorted(math.dist(point, other) for other in own)[k]  # the nearest is itself

    of_real, of_fake = ([reach(p, own) for p in own] for own in (real, fake))
    precision = [
        any(math.dist(f, r) <= d for r, d in zip(real, of_real, strict=True)) for f in fake
    ]
    recall = [any(math.dist(f, r) <= d for f, d in zip(fake, of_fake, strict=True)) for r in real]
    counts = [sum(math.dist(f, r) <= d for r, d in zip(real, of_real, strict=True)) for f in fake]
    covered = [any(math.dist(f, r) <= d for f in fake) for r, d in zip(real, of_real, strict=True)]
    return (
        sum(precision) / len(fake), sum(recall) / len(real),
        sum(counts) / (k * len(fake)), sum(covered) / len(real),
    )  # fmt: skip


@pytest.mark.parametrize(("seed", "k", "shift"), [(0, 5, 0.0), (1, 3, 1.0), (2, 1, 0.5)])
def test_neighbourhoods_are_those_of_the_definitions_written_out(seed, k, shift):
    real, fake = normal(25, 2 * seed), normal(17, 2 * seed + 1, shift)
    assert neighbourhoods(real, fake, k) == pytest.approx(by_hand(real, fake, k))


def test_a_set_covers_itself_and_nothing_of_what_is_far_away():
    real = normal(20, 0)
    same = neighbourhoods(real, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert neighbourhoods(real, real + 1000) == (0, 0, 0, 0)


def test_of_equal_distributions_density_is_1_and_coverage_as_the_paper_says():
    n, m, k = 40, 30, 5
    found = [neighbourhoods(normal(n, 2 * s), normal(m, 2 * s + 1), k) for s in range(60)]
    assert np.mean([f.density for f in found]) == pytest.approx(1, abs=0.05)
    missed = math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    assert np.mean([f.coverage for f in found]) == pytest.approx(1 - missed, abs=0.01)


def test_fewer_modes_lose_recall_and_coverage_and_keep_precision():
    modes = 10 * torch.eye(4, dtype=torch.float64).repeat_interleave(15, dim=0)
    real = modes + 0.5 * normal(60, 0)
    found = []
    for kept in (4, 3, 2, 1):
        rows = torch.arange(60) % (15 * kept)
        found.append(neighbourhoods(real, modes[rows] + 0.5 * normal(60, 1)))
    assert all(f.precision > 0.9 for f in found)
    for name in ("recall", "coverage"):
        values = [getattr(f, name) for f in found]
        assert values == sorted(values, reverse=True)
        assert values[-1] < 0.3
    assert found[0].recall > 0.9


def test_standardised_features_have_mean_0_and_spread_1_together():
    real, fake = standardised(3 * normal(10, 0) + 7, normal(6, 1))
    both = torch.cat([real, fake])
    assert torch.allclose(both.mean(dim=0), torch.zeros(4, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(both.std(dim=0), torch.ones(4, dtype=torch.float64))
    still, _ = standardised(torch.ones(3, 2), torch.ones(3, 2))
    assert torch.equal(still, torch.zeros(3, 2))


def test_the_vendi_score_counts_what_is_entirely_different():
    far = 1000 * torch.eye(6)
    assert vendi_score(far, 1.0) == pytest.approx(6)
    assert vendi_score(torch.zeros(6, 3), 1.0) == pytest.approx(1, abs=1e-6)
    assert vendi_score(far[torch.arange(12) % 3], 1.0) == pytest.approx(3)


def test_the_vendi_score_of_two_is_the_entropy_of_their_likeness():
    pair, likeness = torch.tensor([[0.0], [1.0]]), math.exp(-0.5)
    shares = [(1 + likeness) / 2, (1 - likeness) / 2]
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert vendi_score(pair, 1.0) == pytest.approx(expected, rel=1e-6)


def test_the_vendi_score_falls_as_scans_are_repeated():
    features = normal(48, 0)
    width = median_distance(features)
    scores = [vendi_score(features[torch.arange(48) % kept], width) for kept in (48, 12, 4, 1)]
    assert scores == sorted(scores, reverse=True)


def test_the_class_score_goes_from_1_to_the_number_of_classes():
    assert class_score(torch.full((6, 3), 1 / 3)) == pytest.approx(1)
    assert class_score(torch.eye(3).repeat(2, 1)) == pytest.approx(3)
    assert class_score(torch.eye(3)[:2]) == pytest.approx(2)


def test_a_covariate_that_shows_is_learned_and_one_that_does_not_is_no_better_than_chance():
    real, fake = normal(60, 0), normal(30, 1)
    shows = ["b" if x > 0 else "a" for x in real[:, 0].tolist()]
    subjects = [str(n) for n in range(60)]
    found = classify(real, shows, subjects, fake)
    assert found.usable
    assert found.accuracy > 0.85
    assert torch.allclose(found.fake.sum(dim=1), torch.ones(30, dtype=torch.float64))
    guessed = found.fake[:, 1] > 0.5
    assert ((fake[:, 0] > 0) == guessed).double().mean() > 0.8
    hidden = classify(real, ["ab"[n % 2] for n in range(60)], subjects, fake)
    assert not hidden.usable
    assert classify(real, ["a"] * 60, subjects, fake) is None
    assert classify(real, ["a"] * 55 + ["b"] * 5, subjects, fake) is None


def test_similarities_are_symmetric_and_hold_as_many_pairs_as_were_asked_for():
    volumes = phantom_volumes(6)
    some = pair_similarities(volumes, 7, 0)
    assert torch.equal(some.isnan(), some.T.isnan())
    assert int((~some.isnan()).sum()) == 14
    assert float(some.nanmean()) == pytest.approx(mean_similarity(volumes, 7, 0))


def test_a_set_of_repeated_scans_is_more_similar():
    volumes = phantom_volumes(6)
    plain = pair_similarities(volumes, 100, 0).nanmean()
    repeated = pair_similarities(volumes[torch.arange(6) % 3], 100, 0).nanmean()
    assert repeated > plain
