import pytest
import torch
from torch import nn

from medgan.core.convolution import Conv3d


def kernels(run):
    """Names of what PyTorch calls while something runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    return {event.name for event in profile.events()}


@pytest.mark.parametrize("volumes", [1, 2])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (1, 1, 0)])
@pytest.mark.parametrize("bias", [True, False])
def test_is_the_convolution_of_pytorch(volumes, kernel, stride, padding, bias, generator):
    layer = Conv3d(3, 5, kernel, stride, padding, bias=bias)
    x = torch.randn(volumes, 3, 8, 6, 4, generator=generator, requires_grad=True)
    inputs = [x, *layer.parameters()]
    found, expected = layer(x), nn.Conv3d.forward(layer, x)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_single_small_volume_is_not_left_to_the_slow_kernel(generator):
    layer, x = Conv3d(4, 4, 3, padding=1), torch.randn(1, 4, 8, 8, 8, generator=generator)
    slow = "aten::slow_conv3d_forward"
    assert slow in kernels(lambda: nn.Conv3d.forward(layer, x))  # else the class is not needed
    assert slow not in kernels(lambda: layer(x))


@torch.inference_mode()
def test_autocast_still_computes_in_bf16(generator):
    layer, x = Conv3d(2, 2, 3, padding=1), torch.randn(1, 2, 4, 4, 4, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def penalised(run, layers, x, bf16):
    """Gradients of a loss with a gradient penalty: of the volume and of each parameter."""
    x = x.clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden = nn.functional.leaky_relu(run(layers[0], x), 0.2)
        logits = run(layers[1], hidden).float().tanh().flatten(1).sum(1)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    loss = logits.mean() + gradient.float().square().sum()
    return torch.autograd.grad(loss, [x, *layers.parameters()])


@pytest.mark.parametrize("volumes", [1, 2])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (1, 1, 0)])
def test_gradients_of_a_gradient_penalty_are_those_of_pytorch(
    kernel, stride, padding, bf16, volumes, generator
):
    layers = nn.ModuleList(Conv3d(a, b, kernel, stride, padding) for a, b in ((3, 6), (6, 2)))
    x = torch.randn(volumes, 3, 8, 12, 16, generator=generator)
    expected = penalised(nn.Conv3d.forward, layers, x, bf16)
    found = penalised(Conv3d.__call__, layers, x, bf16)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() < (2e-2 if bf16 else 1e-5) * b.abs().max()


def test_the_second_derivative_needs_no_convolution_as_large_as_the_volume(generator):
    layer = Conv3d(2, 2, 3, padding=1)
    x = torch.randn(2, 2, 8, 8, 8, generator=generator).requires_grad_(True)
    with torch.profiler.profile(record_shapes=True) as profile:
        (gradient,) = torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)
        gradient.square().sum().backward()
    weights = [
        event.input_shapes[1]
        for event in profile.events()
        if event.name == "aten::mkldnn_convolution"
    ]
    assert weights
    assert all(shape[2:] == [3, 3, 3] for shape in weights)
