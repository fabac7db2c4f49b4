import pytest
import torch

from medgan.networks.blocks import Stages
from medgan.networks.generator import Generator


def make(shape=(16, 48, 32), channels=3, widths=(4, 6, 8, 10)):
    torch.manual_seed(0)
    return Generator(shape, channels, latent=7, stages=Stages(widths, 4, 1))


@pytest.mark.parametrize(
    ("shape", "widths"),
    [
        ((16, 16, 16), (4, 6)),
        ((16, 48, 32), (4, 6, 8)),
        ((16, 48, 32), (4, 6, 8, 10)),
        ((32, 16, 16), (4, 6, 8, 10)),
    ],
)
@pytest.mark.parametrize("channels", [1, 4])
def test_latents_become_volumes_of_the_shape_asked_for(shape, widths, channels):
    out = make(shape, channels, widths)(torch.zeros(2, 7))
    assert out.shape == (2, channels, *shape)


def test_different_latents_give_different_volumes_and_equal_ones_the_same(generator):
    latent = torch.randn(2, 7, generator=generator)
    net = make()
    a, b, again = net(torch.stack([latent[0], latent[1], latent[0]])).detach()
    assert torch.allclose(a, again, atol=1e-5)
    assert (a - b).abs().mean() > 0.05


def test_the_latent_makes_every_place_of_the_coarsest_grid():
    assert make().start.out_features == 10 * 1 * 3 * 2
    assert make(widths=(4, 6)).start.out_features == 6 * 4 * 12 * 8


def test_intensities_are_clipped_as_those_of_scans_are():
    net = make()
    for bias, end in ((50.0, 1.0), (-50.0, -1.0)):
        with torch.no_grad():
            net.out.bias.zero_()
            net.out.bias[::8] = bias  # the means; the details stay
        assert torch.equal(net(torch.zeros(1, 7)), torch.full((1, 3, 16, 48, 32), end))


def test_nothing_is_computed_at_full_resolution():
    net = make()
    sizes = []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.register_forward_hook(lambda m, x, y: sizes.append(tuple(y.shape[2:])))
    assert net(torch.zeros(1, 7)).shape[2:] == (16, 48, 32)
    assert max(sizes) == (8, 24, 16)


def test_begun_black_the_image_is_mostly_clipped_at_air_and_labels_are_as_before(generator):
    latent = torch.randn(4, 7, generator=generator)
    net = make()
    before = net(latent)
    net.init_background()
    after = net(latent)
    assert (after[:, 0] == -1).float().mean() > 0.6 > (before[:, 0] == -1).float().mean()
    assert torch.equal(after[:, 1:], before[:, 1:])
