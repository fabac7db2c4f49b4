import math
from itertools import pairwise

import pytest
import torch

from medgan.networks.blocks import Stages
from medgan.networks.gan import Networks
from medgan.networks.latent import fit, slerp, truncate


def source(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("threshold", [0.01, 0.5, 1.0, 3.0])
def test_truncated_coordinates_stay_within_the_threshold_and_the_others_as_they_were(threshold):
    latent = torch.randn(4, 500, generator=source())
    truncated = truncate(latent, threshold, source(1))
    inside = latent.abs() <= threshold
    assert truncated.abs().max() <= threshold
    assert torch.equal(truncated[inside], latent[inside])
    assert (truncated[~inside].abs() < threshold).all()  # drawn again, not cut to the threshold


def test_truncated_coordinates_have_the_variance_of_a_truncated_normal():
    threshold = 1.0
    drawn = truncate(torch.randn(200_000, generator=source()), threshold, source(1))
    density = math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * threshold * density / math.erf(threshold / math.sqrt(2))
    assert float(drawn.var()) == pytest.approx(variance, rel=0.01)
    assert abs(float(drawn.mean())) < 0.005


def test_a_threshold_beyond_every_coordinate_changes_nothing():
    latent = torch.randn(3, 64, generator=source())
    assert torch.equal(truncate(latent, 50.0, source(1)), latent)


def test_slerp_keeps_its_ends_to_the_bit_and_goes_in_equal_angles_and_lengths():
    a, b = torch.randn(2, 32, generator=source())
    a = a / a.norm() * 5
    b = b / b.norm() * 7
    places = [slerp(a, b, share / 4) for share in range(5)]
    assert torch.equal(places[0], a)
    assert torch.equal(places[-1], b)
    for number, place in enumerate(places):
        assert float(place.norm()) == pytest.approx(5 + number / 2, rel=1e-5)
    pairs = pairwise(places)
    angles = [float(torch.arccos(p @ q / p.norm() / q.norm())) for p, q in pairs]
    whole = float(torch.arccos(a @ b / 35))
    assert angles == pytest.approx([whole / 4] * 4, rel=1e-4)


def test_slerp_between_unit_axes_is_cosine_and_sine():
    a, b = torch.eye(3)[:2]
    turned = slerp(a, b, 1 / 3)
    assert turned.tolist() == pytest.approx([math.cos(math.pi / 6), 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_slerp_between_parallel_or_opposite_latents_never_passes_the_origin(factor):
    a = torch.randn(16, generator=source())
    middle = slerp(a, factor * a, 0.5)
    assert float(middle.norm()) == pytest.approx(float(a.norm()) * (1 + abs(factor)) / 2, rel=1e-5)
    if factor > 0:
        assert torch.allclose(middle, a * (1 + factor) / 2)


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    networks = Networks.build((16, 16, 16), 0, latent=8, stages=Stages((16, 16), 16, 1))
    networks.requires_grad(False)
    return networks.generator


def test_a_fit_comes_close_to_what_the_generator_can_draw(generator):
    latent = torch.randn(1, 8, generator=source())
    latent *= 2 / latent.norm()  # of plausible length, so that it costs nothing
    found = fit(generator, generator(latent), latent + 0.3, steps=30)
    assert found.error_after < 0.1 * found.error_before
    assert float((generator(found.latent) - generator(latent)).abs().mean()) == pytest.approx(
        found.error_after, rel=1e-4
    )


def test_no_steps_give_the_start_and_a_perfect_start_is_kept(generator):
    latent = torch.randn(1, 8, generator=source())
    for steps in (0, 5):
        found = fit(generator, generator(latent), latent, steps)
        assert torch.equal(found.latent, latent)
        assert found.error_before == found.error_after == 0.0


def test_a_fit_is_never_worse_than_its_start_whatever_the_latent_costs(generator):
    """The start is far too long, so the price pulls away from where the error is small."""
    volume = torch.rand(1, 1, 16, 16, 16, generator=source()) * 2 - 1
    for seed in range(4):
        start = 5 * torch.randn(1, 8, generator=source(seed))
        found = fit(generator, volume, start, steps=20)
        assert found.error_after <= found.error_before


def test_a_fit_prefers_a_latent_of_plausible_length():
    """A generator that cannot tell lengths apart: only the price moves the latent."""

    def direction(latent):
        return (latent / latent.norm()).reshape(1, 1, 2, 2, 2)

    start = 2 * torch.ones(1, 8)
    found = fit(direction, direction(start), start, steps=300)
    assert float(found.latent.norm()) == pytest.approx(math.sqrt(8), rel=0.02)


def test_a_fit_gives_the_same_bits_twice_and_inside_inference_mode(generator):
    volume = torch.rand(1, 1, 16, 16, 16, generator=source()) * 2 - 1
    first = fit(generator, volume, torch.ones(1, 8), steps=5)
    with torch.inference_mode():
        second = fit(generator, volume.clone(), torch.ones(1, 8), steps=5)
    assert torch.equal(first.latent, second.latent)
    assert first[1:] == second[1:]
