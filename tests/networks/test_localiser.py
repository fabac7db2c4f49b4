import pytest
import torch

from medgan.networks.blocks import Stages
from medgan.networks.localiser import Localiser


@pytest.mark.parametrize(("stem_stages", "stem_channels"), [(1, 4), (2, 4), (2, 0)])
def test_every_voxel_gets_a_logit_and_sends_a_gradient_back(stem_stages, stem_channels):
    torch.manual_seed(0)
    localiser = Localiser(("density",), Stages((8, 16), stem_channels, 1, stem_stages))
    volume = torch.randn(2, 2, 16, 24, 32, requires_grad=True)
    logits = localiser(volume)
    assert logits.shape == (2, 1, 16, 24, 32)
    logits.square().sum().backward()
    assert (volume.grad != 0).float().mean() > 0.9
    assert all(p.grad is not None for p in localiser.parameters())


def test_a_volume_is_judged_alike_in_any_batch():
    torch.manual_seed(0)
    localiser = Localiser((), Stages((8, 16), 4, 1))
    volume = torch.randn(3, 1, 16, 16, 16)
    assert torch.allclose(localiser(volume)[1:2], localiser(volume[1:2]), atol=1e-5)
