import pytest
import torch

from medgan.networks import resampling
from medgan.networks.bent_template import BentTemplate
from medgan.networks.resampling import resized, sampled

SIZES = [((4, 5, 6), (8, 10, 12)), ((1, 3, 2), (2, 7, 2)), ((8, 8, 8), (5, 4, 8))]


@pytest.fixture
def in_one_order(monkeypatch):
    """Gives values and gradients of a function by PyTorch's interpolation and in a fixed order."""

    def both(function, *given):
        found = []
        for fixed in (False, True):
            monkeypatch.setattr(resampling, "in_fixed_order", lambda device, fixed=fixed: fixed)
            inputs = [one.clone().requires_grad_() for one in given]
            made = function(*inputs)
            weights = torch.linspace(-1, 1, made.numel(), dtype=made.dtype).reshape(made.shape)
            found.append([made, *torch.autograd.grad((made * weights).sum(), inputs)])
        return zip(*found, strict=True)

    return both


@pytest.mark.fault(45)
@pytest.mark.parametrize(("size", "new"), SIZES)
def test_interpolation_in_a_fixed_order_gives_the_values_and_gradients_of_pytorch(
    in_one_order, size, new
):
    random = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 3, *size, generator=random)
    for ours, theirs in in_one_order(lambda volume: resized(volume, new), volume):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    grid = torch.rand(2, *new, 3, generator=random) * 2.6 - 1.3  # some beyond the border
    for ours, theirs in in_one_order(sampled, volume.double(), grid.double()):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.fault(45)
def test_a_bent_template_is_the_same_in_a_fixed_order(in_one_order):
    random = torch.Generator().manual_seed(0)
    mean, spread = torch.rand(2, 1, 8, 8, 8, generator=random)
    template = BentTemplate(mean, spread, (4, 4))
    field = torch.randn(2, 3, 4, 4, 4, generator=random)
    drawn = torch.randn(2, 1, 8, 8, 8, generator=random)
    for ours, theirs in in_one_order(template, field, drawn):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
