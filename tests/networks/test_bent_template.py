import torch

from medgan.networks.bent_template import BentTemplate
from medgan.networks.blocks import Stages
from medgan.networks.generator import Generator

SHAPE = (16, 24, 32)
NOTHING = torch.zeros(1, 1, *SHAPE)


def ramp(axis):
    """A volume whose values are the voxel indices along an axis, in [-1, 1]."""
    size = [n if axis == k else 1 for k, n in enumerate(SHAPE)]
    return (torch.arange(SHAPE[axis]).reshape(size).expand(SHAPE) / 16 - 1)[None]


def of(mean, spread=0.1):
    return mean, torch.full_like(mean, spread)


def make(mean, channels=1, spread=0.1):
    torch.manual_seed(0)
    return Generator(SHAPE, channels, 7, Stages((4, 6, 8), 4, 1), template=of(mean, spread))


def test_a_displacement_in_voxels_moves_the_template_by_so_many_voxels():
    for axis in range(3):
        bend = BentTemplate(*of(ramp(axis)), [4])
        field = torch.zeros(1, 3, 4, 6, 8)
        field[:, axis] = 2.5
        moved = bend(field, NOTHING)[0].movedim(axis + 1, 1)[:, :-3]
        assert torch.allclose(moved, ramp(axis).movedim(axis + 1, 1)[:, :-3] + 2.5 / 16, atol=1e-5)


def test_what_is_drawn_counts_in_standard_deviations_of_its_bent_place():
    spread = torch.zeros(1, *SHAPE)
    spread[:, 8:] = 0.2
    bend = BentTemplate(torch.zeros(1, *SHAPE), spread, [4])
    field = torch.zeros(1, 3, 4, 6, 8)
    field[:, 0] = 4.0  # what lies four voxels farther on
    made = bend(field, torch.full((1, 1, *SHAPE), 0.5))
    assert torch.allclose(made[:, :, 4:], torch.tensor(0.1))
    assert not made[:, :, :3].any()


def test_fresh_fields_bend_by_about_a_voxel_and_each_latent_otherwise(generator):
    net = make(ramp(0))
    fields = []
    net.template.register_forward_pre_hook(lambda module, given: fields.append(given[0]))
    net(torch.randn(8, 7, generator=generator))
    assert 0.3 < fields[0].std() < 1.5
    assert fields[0].std(dim=0).mean() > 0.1


def test_every_stage_adds_to_the_field():
    bend = BentTemplate(*of(ramp(0)), [8, 4])
    features = [torch.randn(2, 8, 2, 3, 4), torch.randn(2, 4, 4, 6, 8)]
    whole = bend.field(features)
    for number in range(2):
        part = [torch.zeros_like(f) if n == number else f for n, f in enumerate(features)]
        assert (bend.field(part) - whole).abs().mean() > 0.1


def test_air_in_which_no_scan_differs_stays_black_and_labels_are_drawn_as_ever(generator):
    mean = torch.full((1, *SHAPE), -1.0)
    net = make(mean, 3, spread=0.0)
    drawn = net(torch.randn(2, 7, generator=generator)).detach()
    assert torch.equal(drawn[:, :1], mean.expand(2, 1, *SHAPE))
    assert drawn[:, 1:].std() > 0.2


def test_field_and_addition_both_learn(generator):
    net = make(ramp(2))
    target = torch.roll(ramp(2), 1, dims=-1)[None]
    (net(torch.randn(2, 7, generator=generator)) - target).abs().mean().backward()
    assert net.template is not None
    for layer in (*net.template.fields, net.out):
        assert layer.weight.grad.abs().sum() > 0


def test_tiles_of_a_bent_template_make_the_same_volume(generator):
    net = make(ramp(0), 2)
    latent = torch.randn(1, 7, generator=generator)
    with torch.no_grad():
        assert torch.allclose(net(latent), net(latent, tile=8), atol=1e-5)
