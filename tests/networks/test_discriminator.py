import pytest
import torch

from medgan.networks.discriminator import Discriminator, _spread


def make(stem_channels=3, channels=1, shape=(16, 48, 32), widths=(4, 6, 8, 10), **options):
    torch.manual_seed(0)
    return Discriminator(
        shape, channels, widths=widths, stem_channels=stem_channels, blocks=1, **options
    )


@pytest.mark.parametrize("stem_channels", [0, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("widths", [(4, 6), (4, 6, 8, 10)])
def test_every_volume_gets_one_logit(stem_channels, channels, widths):
    net = make(stem_channels, channels, widths=widths)
    for count in (1, 3):
        assert net(torch.zeros(count, channels, 16, 48, 32)).shape == (count,)


@pytest.mark.parametrize("stem_channels", [0, 3])
def test_features_are_halved_from_stage_to_stage_and_end_before_the_pooling(stem_channels):
    net = make(stem_channels)
    features = net.features(torch.zeros(2, 1, 16, 48, 32))
    assert [tuple(f.shape[1:]) for f in features] == [
        (4, 8, 24, 16), (6, 4, 12, 8), (8, 2, 6, 4), (10, 1, 3, 2),
    ]  # fmt: skip


def test_the_logit_is_read_from_the_coarsest_features(generator):
    net = make()
    volume = torch.randn(2, 1, 16, 48, 32, generator=generator)
    coarsest = net.features(volume)[-1]
    logits = net.logit(net.pool(coarsest).flatten(1))[:, 0]
    assert torch.equal(net(volume), logits)
    assert not torch.allclose(logits[0], logits[1])


def test_a_logit_does_not_pool_position_away(generator):
    net = make()
    volume = torch.zeros(1, 1, 16, 48, 32)
    volume[..., :8] = torch.randn(1, 1, 16, 48, 8, generator=generator)
    assert not torch.allclose(net(volume), net(volume.roll(16, -1)), rtol=1e-3)


def test_patch_heads_give_a_logit_for_every_place_of_their_stage(generator):
    net = make(patches=2)
    volume = torch.randn(2, 1, 16, 48, 32, generator=generator)
    whole, fine, coarse = net.judge(volume)
    assert whole.shape == (2, 1)
    assert fine.shape == (2, 8 * 24 * 16)
    assert coarse.shape == (2, 4 * 12 * 8)
    assert torch.equal(net(volume), whole[:, 0])


def test_a_patch_logit_sees_its_surroundings_only(generator):
    net = make(patches=1)
    volume = torch.randn(1, 1, 16, 48, 32, generator=generator)
    changed = volume.clone()
    changed[..., 24:] += 1
    before, after = (net.judge(v)[1].view(8, 24, 16) for v in (volume, changed))
    assert torch.equal(before[..., 0], after[..., 0])
    assert not torch.equal(before[..., 15], after[..., 15])


def test_minibatch_standard_deviation_tells_a_varied_batch_from_copies(generator):
    net = make(minibatch_std=True)
    volume = torch.randn(1, 1, 16, 48, 32, generator=generator)
    others = torch.randn(3, 1, 16, 48, 32, generator=generator)
    copies, varied = net(volume.expand(4, -1, -1, -1, -1)), net(torch.cat([volume, others]))
    alone = make()(volume.expand(4, -1, -1, -1, -1))
    assert torch.allclose(copies, copies[:1].expand(4), atol=1e-7)
    assert (copies[0] - varied[0]).abs() > 1e-5
    assert torch.allclose(alone, alone[:1].expand(4), atol=1e-6)


def test_the_spread_of_a_batch_is_its_mean_standard_deviation(generator):
    features = torch.randn(5, 3, 2, 2, 2, generator=generator)
    spread = _spread(features)
    assert spread.shape == (5, 1, 2, 2, 2)
    expected = features.std(dim=0, unbiased=False).mean()
    assert torch.allclose(spread, expected.expand_as(spread))
