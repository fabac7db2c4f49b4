import pytest
import torch

from medgan.networks.blocks import (
    Halving,
    ResidualBlock,
    Stages,
    SubPixel,
    Trunk,
    Upsample,
    clip,
    convolution,
    leaky_relu,
)


def test_leaky_relu_keeps_a_fifth_of_what_is_negative():
    assert torch.allclose(leaky_relu(torch.tensor([-5.0, 0.0, 2.0])), torch.tensor([-1.0, 0, 2]))


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_keeps_the_size(kernel):
    out = convolution(2, 5, kernel)(torch.zeros(1, 2, 6, 8, 4))
    assert out.shape == (1, 5, 6, 8, 4)
    assert out.abs().max() == 0


def test_convolutions_keep_the_variance_times_their_squared_gain(generator):
    torch.manual_seed(0)
    x = torch.randn(1, 24, 10, 10, 10, generator=generator)
    with torch.no_grad():
        for gain in (1.0, 2.0):
            for layer in (convolution(24, 64, gain=gain), Halving(24, 64, gain)):
                inner = layer(x)[..., 1:-1, 1:-1, 1:-1]
                assert inner.std().item() == pytest.approx(gain, rel=0.1)


def test_halving_divides_an_even_size_by_two():
    assert Halving(2, 5)(torch.zeros(1, 2, 6, 8, 2)).shape == (1, 5, 3, 4, 1)


def test_halving_counts_every_voxel_inside_equally_often():
    layer = Halving(1, 1)
    with torch.no_grad():
        layer.layer.weight.fill_(1.0)
    x = torch.zeros(1, 1, 8, 8, 8, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[..., 1:-1, 1:-1, 1:-1], torch.full((1, 1, 6, 6, 6), 8.0))


def test_a_residual_block_starts_as_the_identity_and_can_leave_it(generator):
    torch.manual_seed(0)
    block = ResidualBlock(4, depth=3)
    x = torch.randn(2, 4, 5, 6, 7, generator=generator)
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.second.weight)
    assert not torch.allclose(block(x), x)


@pytest.mark.parametrize("size", [(2, 3, 2), (2, 4, 4), (3, 2, 2), (4, 4, 4)])
def test_the_gradient_of_a_block_under_bf16_is_close_to_the_exact_one(size, generator):
    torch.manual_seed(0)
    block = ResidualBlock(16, depth=1).to(memory_format=torch.channels_last_3d)
    torch.nn.init.normal_(block.second.weight, std=0.05)
    x = torch.randn(8, 16, *size, generator=generator).contiguous(
        memory_format=torch.channels_last_3d
    )
    gradients = []
    for bf16 in (False, True):
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = block(x)
        out.float().square().sum().backward()
        gradients.append(block.first.weight.grad.clone())
    exact, rounded = gradients
    assert (rounded - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("size", [(2, 6, 4), (4, 2, 2), (8, 2, 8), (8, 8, 8)])
@pytest.mark.parametrize("channels", [1, 16])
def test_the_gradient_of_halving_under_bf16_is_close_to_the_exact_one(size, channels, generator):
    torch.manual_seed(0)
    layer = Halving(channels, 16).to(memory_format=torch.channels_last_3d)
    x = torch.randn(8, channels, *size, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    gradients = []
    for bf16 in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer(x)
        out.float().square().sum().backward()
        gradients.append(layer.layer.weight.grad.clone())
    exact, rounded = gradients
    assert (rounded - exact).norm() < 0.05 * exact.norm()


def test_what_is_clipped_moves_only_back_in():
    x = torch.tensor([-2.0, -1.0, 0.5, 1.0, 2.0], requires_grad=True)
    out = clip(x)
    assert torch.equal(out, torch.tensor([-1.0, -1.0, 0.5, 1.0, 1.0]))
    for sign, passed in ((1.0, [0, 1, 1, 1, 1]), (-1.0, [1, 1, 1, 1, 0])):
        (gradient,) = torch.autograd.grad(sign * out.sum(), x, retain_graph=True)
        assert torch.equal(gradient, sign * torch.tensor(passed))


def test_upsampling_doubles_every_axis_and_keeps_a_constant():
    up = Upsample(3, 2)
    x = torch.ones(1, 3, 2, 3, 4)
    out = up(x)
    assert out.shape == (1, 2, 4, 6, 8)
    assert torch.allclose(out, up.mix(x)[:, :, :1, :1, :1].expand_as(out), atol=1e-6)


@pytest.mark.parametrize("stem_channels", [0, 3])
@pytest.mark.parametrize("widths", [(4, 6), (4, 6, 8, 10)])
def test_a_trunk_halves_the_grid_at_every_stage_from_the_finest(stem_channels, widths):
    features = Trunk(2, Stages(widths, stem_channels, 1))(torch.zeros(2, 2, 16, 48, 32))
    expected = [(2, w, 8 >> i, 24 >> i, 16 >> i) for i, w in enumerate(widths)]
    assert [tuple(f.shape) for f in features] == expected


@pytest.mark.parametrize("stem_channels", [0, 3])
def test_a_trunk_computes_nothing_at_full_resolution(stem_channels):
    sizes = []
    trunk = Trunk(1, Stages((4, 6), stem_channels, 1, 2))
    for module in trunk.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.register_forward_hook(lambda m, x, y: sizes.append(y.shape[2]))
    trunk(torch.zeros(1, 1, 16, 16, 16))
    assert max(sizes) == (8 if stem_channels else 4)


def test_the_blocks_of_a_trunk_number_as_many_as_asked():
    trunk = Trunk(1, Stages((4, 6, 8), 2, 3))
    assert [len(stage) for stage in trunk.stages] == [3, 3, 3]


def test_a_sub_pixel_convolution_starts_by_repeating_voxels(generator):
    out = SubPixel(3, 2)(torch.randn(1, 3, 2, 2, 2, generator=generator))
    assert torch.equal(out[..., ::2, :, :], out[..., 1::2, :, :])
    assert torch.equal(out[..., ::2], out[..., 1::2])
    assert not torch.equal(out[..., 0, 0, 0], out[..., 2, 2, 2])


def test_a_sub_pixel_convolution_lays_eight_channels_side_by_side():
    layer = SubPixel(8, 1)
    with torch.no_grad():
        layer.mix.weight.copy_(torch.eye(8)[:, :, None, None, None])
    x = torch.arange(8.0)[None, :, None, None, None].expand(1, 8, 2, 3, 1)
    out = layer(x)
    assert out.shape == (1, 1, 4, 6, 2)
    assert torch.equal(out[0, 0, 2:4, 4:6, 0:2], torch.arange(8.0).reshape(2, 2, 2))
