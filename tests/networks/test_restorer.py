import pytest
import torch

from medgan.networks.restorer import Restorer


@pytest.mark.parametrize("stem_stages", [1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_fresh_restorer_hardly_changes_a_volume_of_any_channels(channels, stem_stages):
    torch.manual_seed(0)
    restorer = Restorer(channels, (8, 8), 8, 1, stem_stages)
    volume = torch.rand(2, channels, 16, 32, 16) * 1.8 - 0.9
    restored = restorer(volume).detach()
    assert restored.shape == volume.shape
    assert 0 < float((restored - volume).abs().mean()) < 0.05


def test_the_finest_detail_of_a_volume_survives_a_correction_of_zero():
    restorer = Restorer(1, (8, 8), 8, 1)
    with torch.no_grad():
        restorer.out.weight.zero_()
    volume = torch.rand(1, 1, 16, 16, 16) * 2 - 1
    assert torch.equal(restorer(volume), volume)
