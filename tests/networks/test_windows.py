import pytest
import torch

from medgan.core.config import WINDOWS
from medgan.core.intensity import IntensityScale
from medgan.networks.blocks import Stages
from medgan.networks.encoder import Encoder
from medgan.networks.windows import WindowViews

CHEST = (WINDOWS["lung"], WINDOWS["soft tissue"], WINDOWS["bone"])


def hounsfield(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(2, 1, 8, 8, 8, generator=generator, dtype=torch.float64) * 4000 - 1500


def test_views_are_what_each_window_shows(generator):
    values = hounsfield(generator)
    beside = torch.rand(2, 3, 8, 8, 8, generator=generator, dtype=torch.float64)
    volume = IntensityScale.of_windows(CHEST)(values)
    seen = WindowViews([CHEST])(torch.cat([volume, beside], dim=1))
    assert seen.shape == (2, 3 + 3, 8, 8, 8)
    for number, (low, high) in enumerate(CHEST):
        expected = 2 * (values.clamp(low, high) - low) / (high - low) - 1
        assert torch.allclose(seen[:, number : number + 1], expected, atol=1e-9)
    assert torch.equal(seen[:, 3:], beside)


def test_air_and_metal_still_tell_where_to_go(generator):
    volume = torch.tensor([-1.2, -1.0, 1.0, 1.3]).view(4, 1, 1, 1, 1).requires_grad_()
    seen = WindowViews([CHEST])(volume)
    (slope,) = torch.autograd.grad(seen.sum(), volume)
    assert (slope > 0).all()
    lung, _, bone = seen.detach().flatten(1).T.tolist()
    assert lung[0] < lung[1] == pytest.approx(-1)
    assert bone[3] > bone[2] == pytest.approx(1)


def test_a_difference_in_soft_tissue_weighs_more_in_its_own_view():
    scale = IntensityScale.of_windows(CHEST)
    liver, spleen = scale(torch.tensor([50.0, 70.0]))
    views = WindowViews([CHEST])(torch.stack([liver, spleen]).view(2, 1, 1, 1, 1)).flatten(1)
    lung, soft, bone = (views[1] - views[0]).tolist()
    assert soft == pytest.approx(2 * 20 / 400, rel=1e-4)
    assert soft > 3 * lung
    assert soft > 3 * bone


def test_networks_read_views_as_channels_of_one_volume():
    one, several = (
        Encoder((16, 16, 16), 1, latent=4, stages=Stages((4, 6), 3, 1, windows=windows))
        for windows in ((), [CHEST])
    )
    volume = torch.rand(2, 1, 16, 16, 16)
    assert several(volume).shape == one(volume).shape == (2, 4)
    first, wider = (next(net.trunk.parameters()).shape for net in (one, several))
    assert (first[1], wider[1]) == (8, 8 * 3)
    assert one.state_dict().keys() == several.state_dict().keys()
