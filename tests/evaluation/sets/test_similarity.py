import pytest
import torch
import torch.nn.functional as F

from medgan.evaluation.sets.similarity import fitting_scales, mean_similarity, ms_ssim


def smooth(count, seed, shape=(16, 24, 16)):
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 4, 4, 4, generator=random) * 2 - 1
    return F.interpolate(coarse, size=shape, mode="trilinear")


@pytest.mark.parametrize(
    ("edge", "scales"), [(7, 1), (13, 1), (14, 2), (16, 2), (28, 3), (32, 3), (63, 4), (112, 5)]
)
def test_scales_are_as_many_as_fit_and_their_weights_sum_to_one(edge, scales):
    weights = fitting_scales((edge, 200, edge + 1))
    assert len(weights) == scales
    assert sum(weights) == pytest.approx(1)
    volume = smooth(1, 0, (edge, edge + 2, edge + 1))
    assert torch.isfinite(ms_ssim(volume, volume)).all()


def test_a_volume_is_as_similar_to_itself_as_can_be():
    volume = smooth(3, 0)
    assert torch.allclose(ms_ssim(volume, volume), torch.ones(3))


def test_similarity_is_symmetric_lies_in_0_to_1_and_falls_with_noise(generator):
    a, b = smooth(4, 0), smooth(4, 1)
    assert torch.allclose(ms_ssim(a, b), ms_ssim(b, a), atol=1e-6)
    noise = torch.randn(a.shape, generator=generator)
    means = [float(ms_ssim(a, a + amount * noise).mean()) for amount in (0, 0.05, 0.2, 0.8)]
    assert means == sorted(means, reverse=True)
    assert 0 <= means[-1] < 0.7


def test_mean_similarity_of_all_pairs_is_the_mean_over_pairs():
    volume = smooth(4, 0)
    pairs = [
        float(ms_ssim(volume[i : i + 1], volume[j : j + 1])) for i in range(4) for j in range(i)
    ]
    assert mean_similarity(volume, 100, 0) == pytest.approx(sum(pairs) / 6, abs=1e-5)


def test_a_collapsed_set_is_more_similar_than_a_varied_one():
    varied, collapsed = smooth(6, 0), smooth(1, 0).repeat(6, 1, 1, 1, 1)
    assert mean_similarity(collapsed, 10, 0) == pytest.approx(1, abs=1e-5)
    assert mean_similarity(varied, 10, 0) < 0.8


def test_pairs_are_drawn_by_the_seed():
    volume = smooth(8, 0)
    first = mean_similarity(volume, 3, 0)
    assert mean_similarity(volume, 3, 0) == first
    assert mean_similarity(volume, 3, 1) != first
