import pytest
import torch
from torch import nn

from medgan.networks.convolution import convolve


def penalised(run, layers, x, bf16):
    """Gradients of a loss with a gradient penalty: of the volume and of each parameter."""
    x = x.clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden = nn.functional.leaky_relu(run(layers[0], x), 0.2)
        logits = run(layers[1], hidden).float().tanh().flatten(1).sum(1)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    loss = logits.mean() + gradient.float().square().sum()
    return torch.autograd.grad(loss, [x, *layers.parameters()])


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (1, 1, 0)])
def test_gradients_of_a_gradient_penalty_are_those_of_pytorch(
    kernel, stride, padding, bf16, generator
):
    layers = nn.ModuleList(nn.Conv3d(a, b, kernel, stride, padding) for a, b in ((3, 6), (6, 2)))
    x = torch.randn(2, 3, 8, 12, 16, generator=generator)
    expected = penalised(lambda layer, x: layer(x), layers, x, bf16)
    found = penalised(convolve, layers, x, bf16)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() < (2e-2 if bf16 else 1e-5) * b.abs().max()


def test_what_is_not_trained_runs_the_layer_itself(generator):
    layer = nn.Conv3d(2, 2, 3, padding=1)
    x = torch.randn(1, 2, 4, 4, 4, generator=generator)
    with torch.no_grad():
        assert torch.equal(convolve(layer, x), layer(x))
    called = []
    layer.register_forward_hook(lambda *_: called.append(True))
    convolve(layer.requires_grad_(False), x.requires_grad_(True))
    assert called


def test_the_second_derivative_needs_no_convolution_as_large_as_the_volume(generator):
    layer = nn.Conv3d(2, 2, 3, padding=1)
    x = torch.randn(2, 2, 8, 8, 8, generator=generator).requires_grad_(True)
    with torch.profiler.profile(record_shapes=True) as profile:
        (gradient,) = torch.autograd.grad(convolve(layer, x).tanh().sum(), x, create_graph=True)
        gradient.square().sum().backward()
    weights = [
        event.input_shapes[1]
        for event in profile.events()
        if event.name == "aten::mkldnn_convolution"
    ]
    assert weights
    assert all(shape[2:] == [3, 3, 3] for shape in weights)
