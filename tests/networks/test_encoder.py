import pytest
import torch

from medgan.networks.blocks import Stages
from medgan.networks.encoder import Encoder


@pytest.mark.parametrize(
    ("shape", "widths"),
    [((16, 16, 16), (4, 6)), ((16, 48, 32), (4, 6, 8)), ((16, 48, 32), (4, 6, 8, 10))],
)
@pytest.mark.parametrize("stem_channels", [0, 3])
def test_every_volume_gets_one_latent(shape, widths, stem_channels):
    net = Encoder(shape, 1, latent=7, stages=Stages(widths, stem_channels, 1))
    for count in (1, 2):
        assert net(torch.zeros(count, 1, *shape)).shape == (count, 7)


def test_a_latent_holds_where_things_are(generator):
    torch.manual_seed(0)
    net = Encoder((16, 48, 32), 1, latent=7, stages=Stages((4, 6, 8), 3, 1))
    volume = torch.zeros(1, 1, 16, 48, 32)
    volume[..., :8] = torch.randn(1, 1, 16, 48, 8, generator=generator)
    here, there = net(volume).detach(), net(volume.roll(16, -1)).detach()
    assert (here - there).abs().mean() > 0.1 * here.abs().mean()
