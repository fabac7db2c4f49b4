import pytest
import torch

from medgan.networks.subbands import SCALES, SubBands


def test_a_volume_comes_back_from_its_sub_bands(generator):
    volume = torch.randn(2, 3, 4, 6, 8, generator=generator)
    bands = SubBands().split(volume)
    assert bands.shape == (2, 24, 2, 3, 4)
    assert torch.allclose(SubBands().join(bands), volume, atol=1e-6)


def test_the_first_band_of_a_channel_holds_means_of_eight_voxels(generator):
    volume = torch.randn(1, 2, 4, 4, 4, generator=generator)
    bands = SubBands().split(volume)
    assert torch.allclose(bands[0, 0, 1, 0, 1], volume[0, 0, 2:, :2, 2:].mean())
    assert torch.allclose(bands[0, 8, 0, 1, 1], volume[0, 1, :2, 2:, 2:].mean())


@pytest.mark.parametrize(("axes", "band"), [((2,), 4), ((3,), 2), ((4,), 1), ((2, 3, 4), 7)])
def test_a_stripe_along_some_axes_lies_in_one_band_scaled_by_their_number(axes, band):
    volume = torch.ones(1, 1, 4, 4, 4)
    for axis in axes:
        stripes = torch.tensor([1.0, -1.0]).repeat(2)
        volume = volume * stripes.reshape([-1 if n == axis else 1 for n in range(5)])
    bands = SubBands().split(volume)[0]
    expected = torch.zeros(8)
    expected[band] = SCALES[len(axes)]
    assert torch.allclose(bands, expected[:, None, None, None].expand_as(bands))


def test_sub_bands_are_exact_under_bf16(generator):
    volume = torch.randn(1, 1, 4, 4, 4, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        back = SubBands().join(SubBands().split(volume))
    assert torch.allclose(back, volume, atol=1e-6)
