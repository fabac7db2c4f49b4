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


def test_where_left_and_right_are_alike_a_mirrored_volume_has_the_mirrored_logits():
    torch.manual_seed(0)
    localiser = Localiser((), Stages((8, 16), 4, 1))
    volume = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(localiser.located(volume), localiser(volume))
    localiser.mirrored = True
    found = localiser.located(volume)
    assert torch.allclose(localiser.located(volume.flip(2)).flip(2), found, atol=1e-5)
    assert not torch.allclose(localiser(volume), found, atol=1e-3)
