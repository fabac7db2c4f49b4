import pytest
import torch

from medgan.core.conversion import Conversion
from medgan.networks.blocks import Stages
from medgan.networks.translator import Translator


def translator(noise=True, residual=False, stages=None):
    torch.manual_seed(0)
    conversion = Conversion("translation", ("T1w",), ("ct",), noise)
    return Translator(conversion, 2, 1, stages or Stages((8, 16), 8, 1), residual)


@pytest.mark.parametrize("stages", [Stages((8, 16), 8, 1), Stages((8,), 0, 1, 2)])
def test_noise_changes_nothing_before_it_is_learned_from_and_can_be_learned_from(stages):
    network, source = translator(stages=stages), torch.rand(2, 2, 16, 16, 16) - 0.5
    noise = torch.randn(2, 1, 16, 16, 16)
    torch.testing.assert_close(network(source, noise), network(source))
    network(source, noise).square().mean().backward()
    weights = network.unet.trunk.first.layer.weight
    assert weights.grad is not None
    assert weights.grad[:, 16:].abs().max() > 0


def test_a_residual_translator_begins_near_the_source():
    source = torch.rand(1, 2, 16, 16, 16) - 0.5
    drawn = translator(noise=False, residual=True)(source)
    assert (drawn - source[:, :1]).abs().mean() < (drawn - source[:, 1:]).abs().mean()


def test_targets_lie_within_the_range_of_scans():
    network = translator(noise=False)
    with torch.no_grad():
        network.unet.out.weight.mul_(1000)
    assert network(torch.rand(1, 2, 16, 16, 16)).abs().max() <= 1
