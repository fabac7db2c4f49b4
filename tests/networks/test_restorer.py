import pytest
import torch

from medgan.networks.blocks import Stages
from medgan.networks.restorer import Restorer


@pytest.mark.parametrize("stem_stages", [1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_fresh_restorer_hardly_changes_a_volume_of_any_channels(channels, stem_stages):
    torch.manual_seed(0)
    stages = Stages((8, 8), 8, 1, stem_stages)
    restorer = Restorer(("density",), channels, channels + 1, stages)
    volume = torch.rand(2, channels, 16, 32, 16) * 1.8 - 0.9
    density = torch.rand(2, 1, 16, 32, 16)
    restored = restorer(torch.cat([volume, density], dim=1)).detach()
    assert restored.shape == volume.shape
    assert 0 < float((restored - volume).abs().mean()) < 0.05


def test_a_restorer_sees_what_comes_beside_the_volume():
    torch.manual_seed(0)
    restorer = Restorer(("density",), 1, 2, Stages((8, 8), 8, 1))
    volume = torch.rand(1, 2, 16, 16, 16)
    other = volume.clone()
    other[:, 1] += 1
    assert not torch.equal(restorer(volume), restorer(other))
