import pytest
import torch

from medgan.networks.blocks import Stages
from medgan.networks.discriminator import Discriminator


def make(stem_channels=3, channels=1, shape=(16, 48, 32), widths=(4, 6, 8, 10)):
    torch.manual_seed(0)
    return Discriminator(shape, channels, Stages(widths, stem_channels, 1))


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
