import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from medgan.anomaly.maps import (
    feature_map,
    residual_map,
    similarity_map,
    top_mean,
)

SHAPE = (8, 12, 8)


def features(generator, count=2):
    """Three depths of a pyramid."""
    sizes = [(4, 4, 6, 4), (6, 2, 3, 2), (5, 1, 2, 1)]
    return [torch.randn(count, *size, generator=generator) for size in sizes]


def test_maps_of_equal_inputs_are_zero(generator):
    volume = torch.randn(2, 1, *SHAPE, generator=generator)
    assert residual_map(volume, volume).abs().max() == 0
    same = features(generator)
    assert feature_map(same, same, SHAPE).abs().max() == 0


def test_maps_are_symmetric_and_never_negative(generator):
    a, b = torch.randn(2, 2, 1, *SHAPE, generator=generator)
    assert torch.equal(residual_map(a, b), residual_map(b, a))
    assert residual_map(a, b).min() >= 0
    a, b = features(generator), features(generator)
    assert torch.equal(feature_map(a, b, SHAPE), feature_map(b, a, SHAPE))
    assert feature_map(a, b, SHAPE).min() > 0


def test_the_residual_is_local_to_the_voxel(generator):
    volume = torch.randn(1, 1, *SHAPE, generator=generator)
    recon = volume.clone()
    recon[0, 0, 3, 7, 2] -= 0.75
    residual = residual_map(volume, recon)
    assert residual[0, 0, 3, 7, 2].item() == pytest.approx(0.75)
    assert residual.count_nonzero() == 1


def test_the_feature_map_has_the_volumes_grid_and_one_channel(generator):
    assert feature_map(features(generator), features(generator), SHAPE).shape == (2, 1, *SHAPE)


def test_the_feature_map_of_constants_is_their_relative_difference_averaged_over_depths():
    one, three = torch.ones(1, 2, 2, 3, 2), torch.full((1, 2, 2, 3, 2), 3.0)
    assert torch.allclose(feature_map([one], [three], SHAPE), torch.ones(()), atol=1e-5)
    half = feature_map([one, one], [three, one], SHAPE)
    assert torch.allclose(half, torch.tensor(0.5), atol=1e-5)


def test_the_feature_map_does_not_see_the_scale_of_a_channel(generator):
    a, b = features(generator), features(generator)
    units = [torch.logspace(-1, 3, f.shape[1])[:, None, None, None] for f in a]
    scaled = [[f * u for f, u in zip(side, units, strict=True)] for side in (a, b)]
    plain = feature_map(a, b, SHAPE)
    assert torch.allclose(feature_map(*scaled, SHAPE), plain, rtol=1e-3)
    louder = [f * 4 for f in b]
    assert not torch.allclose(feature_map(a, louder, SHAPE), plain, rtol=1e-1)


def test_a_dead_channel_adds_nothing_to_the_feature_map(generator):
    a, b = features(generator)[:1], features(generator)[:1]
    for side in (a, b):
        side[0][:, 1] = 0
    without = [[side[0][:, [0, 2, 3]]] for side in (a, b)]
    expected = feature_map(*without, SHAPE) * (3 / 4) ** 0.5
    assert torch.allclose(feature_map(a, b, SHAPE), expected, rtol=1e-4)


def test_the_feature_map_is_highest_where_the_features_differ(generator):
    a = features(generator, 1)
    b = [f.clone() for f in a]
    b[0][:, :, 3, 0, 2] += 5
    peak = feature_map(a, b, SHAPE).flatten().argmax()
    x, y, z = (int(i) for i in torch.unravel_index(peak, SHAPE))
    assert (x // 2, y // 2, z // 2) == (3, 0, 2)


def test_maps_of_a_batch_are_those_of_its_members(generator):
    a, b = features(generator, 3), features(generator, 3)
    alone = [
        feature_map([f[i : i + 1] for f in a], [f[i : i + 1] for f in b], SHAPE) for i in range(3)
    ]
    assert torch.allclose(feature_map(a, b, SHAPE), torch.cat(alone), atol=1e-6)


def test_top_mean_averages_the_highest_share():
    score_map = torch.randperm(100).float().view(1, 1, 5, 5, 4)
    for top, expected in ((0.01, 99.0), (0.05, 97.0), (0.5, 74.5), (1.0, 49.5)):
        assert top_mean(score_map, top).item() == pytest.approx(expected)


def test_top_mean_takes_one_voxel_at_least():
    score_map = torch.arange(8.0).view(1, 1, 2, 2, 2)
    assert top_mean(score_map, 1e-6).item() == 7


def test_top_mean_falls_with_its_share_and_rises_with_the_map(generator):
    score_map = torch.randn(3, 1, *SHAPE, generator=generator)
    means = torch.stack([top_mean(score_map, top) for top in (0.01, 0.1, 0.4, 1.0)])
    assert (means.diff(dim=0) < 0).all()
    for top in (0.01, 1.0):
        raised = score_map.clone()
        raised.flatten(1)[:, ::7] += 2
        assert (top_mean(raised, top) > top_mean(score_map, top)).all()
    assert torch.allclose(top_mean(score_map + 2, 0.1), top_mean(score_map, 0.1) + 2)


def test_the_similarity_map_is_zero_for_equal_volumes_and_local(generator):
    volume = torch.rand(1, 1, 16, 20, 18, generator=generator)
    assert similarity_map(volume, volume).abs().max() < 1e-5
    recon = volume.clone()
    recon[0, 0, 8, 10, 9] += 1
    changed = similarity_map(volume, recon)
    assert changed.shape == volume.shape
    assert changed[0, 0, 8, 10, 9] > 0.01
    far = torch.ones(16, 20, 18, dtype=torch.bool)
    far[5:12, 7:14, 6:13] = False
    assert changed[0, 0][far].abs().max() < 1e-5


def test_the_similarity_map_sees_lost_structure_that_a_residual_does_not(generator):
    volume = 0.1 * torch.randn(1, 1, 16, 16, 16, generator=generator)
    lost, shifted = torch.zeros_like(volume), volume + 0.08
    assert residual_map(volume, lost).mean() == pytest.approx(0.08, abs=0.01)
    assert similarity_map(volume, lost).mean() > 2 * similarity_map(volume, shifted).mean()


@pytest.mark.parametrize("score_map", [residual_map, similarity_map])
def test_maps_of_several_channels_are_the_mean_over_channels(score_map, generator):
    volume, recon = torch.rand(2, 2, 3, *SHAPE, generator=generator)
    alone = [score_map(volume[:, n : n + 1], recon[:, n : n + 1]) for n in range(3)]
    assert score_map(volume, recon).shape == (2, 1, *SHAPE)
    assert torch.allclose(score_map(volume, recon), torch.stack(alone).mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("window", [3, 7])
def test_the_similarity_map_is_one_minus_that_of_scikit_image(window, generator):
    volume = 2 * torch.rand(1, 1, 10, 12, 9, generator=generator) - 1
    recon = (volume + 0.3 * torch.randn(volume.shape, generator=generator)).clamp(-1, 1)
    _, expected = structural_similarity(
        *(((v[0, 0] + 1) / 2).double().numpy() for v in (volume, recon)),
        win_size=window, data_range=1.0, use_sample_covariance=False, full=True,
    )  # fmt: skip
    margin = slice(window // 2, -(window // 2))
    inside = (margin, margin, margin)
    found = similarity_map(volume, recon, window)[0, 0][inside].numpy()
    np.testing.assert_allclose(found, 1 - expected[inside], atol=1e-3)
    if window == 7:
        assert torch.equal(similarity_map(volume, recon), similarity_map(volume, recon, 7))


def test_features_far_below_one_in_a_million_count_as_none():
    a, b = (torch.full((1, 1, 2, 2, 2), value) for value in (2e-6, 0.0))
    expected = 2e-6 / (1e-6 + 1e-6)  # magnitude in both, plus a millionth
    assert feature_map([a], [b], SHAPE).max().item() == pytest.approx(expected, rel=1e-4)


def test_features_of_different_depth_are_refused(generator):
    a = features(generator)
    with pytest.raises(ValueError, match="zip"):
        feature_map(a, a[:-1], SHAPE)
