import pytest
import torch

from medgan.models.generator import Generator


def make(shape=(16, 48, 32), channels=3, widths=(4, 6, 8, 10)):
    torch.manual_seed(0)
    return Generator(shape, channels, latent=7, widths=widths, thin=4, blocks=1, detail=2)


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


def test_intensities_are_not_squashed():
    net = make()
    with torch.no_grad():
        net.out.bias.fill_(50.0)
    assert net(torch.zeros(1, 7)).mean().item() > 10


def test_noise_is_drawn_from_the_source_given_and_left_out_without_one(generator):
    net = make()
    latent = torch.randn(1, 7, generator=generator)

    def draw(seed):
        return net(latent, None, torch.Generator().manual_seed(seed)).detach()

    assert torch.equal(draw(1), draw(1))
    assert (draw(1) - draw(2)).abs().mean() > 1e-3
    assert torch.equal(net(latent), net(latent))
