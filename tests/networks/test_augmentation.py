from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from medgan.core.randomness import Randomness
from medgan.networks.augmentation import (
    Augmentation,
    Corruption,
    _rotation,
    augment,
    corrupt,
    draw_augmentation,
    draw_corruption,
)

SHAPE = (16, 24, 20)


def batch(generator, count=4):
    return torch.rand(count, 1, *SHAPE, generator=generator) * 2 - 1


def one_box(kind: int, count: int = 2, level: float = 0.5) -> Corruption:
    """The same ellipsoid in the middle of every volume; each volume's donor is the next one."""
    return Corruption(
        centre=torch.full((count, 1, 3), 0.5),
        radius=torch.tensor([0.3, 0.2, 0.25]).expand(count, 1, 3),
        kind=torch.full((count, 1), kind),
        level=torch.full((count, 1), level),
        donor=torch.arange(count).roll(-1),
        noise=torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(5)),
    )


def nearest_distance(corruption: Corruption) -> np.ndarray:
    """Of every voxel to the nearest ellipsoid's centre, in radii: (B, 1, X, Y, Z)."""
    axes = [np.linspace(0, 1, n) for n in SHAPE]
    position = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    centre = corruption.centre.double().numpy()[:, :, None, None, None]
    radius = corruption.radius.double().numpy()[:, :, None, None, None]
    return np.linalg.norm((position - centre) / radius, axis=-1).min(axis=1)[:, None]


def same(a: Corruption, b: Corruption) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Corruption))


def test_one_draw_always_gives_one_result_and_leaves_its_input_alone(generator):
    volume = batch(generator)
    before = volume.clone()
    corruption = draw_corruption(volume, Randomness(generator))
    assert torch.equal(corrupt(volume, corruption), corrupt(volume, corruption))
    assert torch.equal(volume, before)


def test_the_generators_state_reproduces_the_draw_and_the_next_draw_differs(generator):
    volume = batch(generator)
    state = generator.get_state()
    first = draw_corruption(volume, Randomness(generator))
    second = draw_corruption(volume, Randomness(generator))
    generator.set_state(state)
    assert same(draw_corruption(volume, Randomness(generator)), first)
    assert not same(first, second)


def test_a_draw_sees_the_shape_of_a_volume_and_not_its_values(generator):
    volume = batch(generator)
    draws = [
        draw_corruption(v, Randomness(torch.Generator().manual_seed(3)))
        for v in (volume, -volume.square())
    ]
    assert same(*draws)


def test_a_draw_consumes_the_same_randomness_on_every_device(generator):
    volume = batch(generator)
    here, there = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    draw_corruption(volume, Randomness(here))
    elsewhere = draw_corruption(volume.to("meta"), Randomness(there))
    assert torch.equal(here.get_state(), there.get_state())
    devices = {f.name: getattr(elsewhere, f.name).device.type for f in fields(Corruption)}
    assert devices.pop("kind") == devices.pop("donor") == "cpu"  # what chooses, chooses there
    assert set(devices.values()) == {"meta"}


def test_drawn_parameters_keep_their_ranges_and_reach_all_kinds(generator):
    draw = draw_corruption(torch.zeros(500, 1, 1, 1, 1), Randomness(generator), boxes=3)
    assert draw.centre.shape == draw.radius.shape == (500, 3, 3)
    for values, low, high in (
        (draw.centre, 0.1, 0.9),
        (draw.radius, 0.04, 0.18),
        (draw.level, -1.0, 1.0),
    ):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high >= values.max() > high - 0.05 * (high - low)
    assert set(draw.kind.flatten().tolist()) == {0, 1, 2, 3}
    assert sorted(draw.donor.tolist()) == list(range(500))


def test_voxels_outside_the_ellipsoids_are_untouched_to_the_bit(generator):
    volume = batch(generator, 12)
    corruption = draw_corruption(volume, Randomness(generator))
    corrupted = corrupt(volume, corruption)
    outside = torch.from_numpy(nearest_distance(corruption) >= 1)
    assert 0.5 < outside.double().mean() < 0.999
    assert torch.equal(corrupted[outside].view(torch.int32), volume[outside].view(torch.int32))
    assert not torch.equal(corrupted[~outside], volume[~outside])


def test_each_kind_fills_the_core_of_its_ellipsoid_with_what_it_promises(generator):
    volume = batch(generator)
    core = torch.from_numpy(nearest_distance(one_box(0, 4)) <= 0.75)
    noise = one_box(1, 4).noise
    promised = {0: torch.full_like(volume, 0.5), 1: 0.5 + 0.4 * noise, 2: volume.roll(-1, 0)}
    for kind, filling in promised.items():
        corrupted = corrupt(volume, one_box(kind, 4))
        assert torch.equal(corrupted[core], filling[core])


def test_the_blurred_kind_smooths_and_keeps_a_constant(generator):
    volume = batch(generator, 2)
    core = torch.from_numpy(nearest_distance(one_box(3)) <= 0.75)
    assert corrupt(volume, one_box(3))[core].std() < 0.7 * volume[core].std()
    constant = torch.full_like(volume, 0.25)
    assert torch.allclose(corrupt(constant, one_box(3)), constant)


def test_the_rim_of_an_ellipsoid_fades_from_filling_to_volume():
    volume = torch.zeros(2, 1, *SHAPE)
    distance = torch.from_numpy(nearest_distance(one_box(0)))
    corrupted = corrupt(volume, one_box(0, level=1.0))
    expected = (4 * (1 - distance)).clamp(0, 1)
    assert ((expected > 0) & (expected < 1)).any()
    assert torch.allclose(corrupted.double(), expected, atol=1e-5)


def test_later_boxes_lie_over_earlier_ones():
    box = one_box(0)
    pairs = {
        f.name: getattr(box, f.name).repeat_interleave(2, 1)
        for f in fields(Corruption)
        if f.name not in ("donor", "noise")
    }
    both = replace(box, **(pairs | {"level": torch.tensor([[-1.0, 1.0]] * 2)}))
    core = torch.from_numpy(nearest_distance(box) <= 0.75)
    assert corrupt(torch.zeros(2, 1, *SHAPE), both)[core].unique().tolist() == [1.0]


def test_a_batch_of_one_is_its_own_donor(generator):
    volume = batch(generator, 1)
    assert corrupt(volume, draw_corruption(volume, Randomness(generator))).shape == volume.shape
    assert torch.equal(corrupt(volume, one_box(2, 1)), volume)


def test_volumes_of_a_batch_are_spoiled_independently_unless_one_is_the_donor(generator):
    volume = batch(generator, 2)
    for kind in (0, 1, 3):
        box = one_box(kind)
        alone = replace(
            box, **{f.name: getattr(box, f.name)[:1] for f in fields(Corruption)},
        )  # fmt: skip
        alone = replace(alone, donor=torch.zeros(1, dtype=torch.long))
        together = corrupt(volume, box)[:1]
        assert torch.equal(corrupt(volume[:1], alone), together)


def test_gradients_pass_outside_and_stop_where_a_constant_was_laid(generator):
    volume = batch(generator, 2).requires_grad_(True)
    corrupt(volume, one_box(0)).sum().backward()
    distance = torch.from_numpy(nearest_distance(one_box(0)))
    assert volume.grad[distance >= 1].unique().tolist() == [1.0]
    assert volume.grad[distance <= 0.75].unique().tolist() == [0.0]


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 48, 32)])
def test_volumes_with_several_channels_and_uneven_shapes_are_corrupted(shape, generator):
    volume = torch.randn(3, 2, *shape, generator=generator)
    corrupted = corrupt(volume, draw_corruption(volume, Randomness(generator), boxes=8))
    assert corrupted.shape == volume.shape
    changed = corrupted != volume
    assert changed.any()
    assert torch.isfinite(corrupted).all()


def still(count: int = 2) -> Augmentation:
    """Changes nothing."""
    return Augmentation(
        flips=torch.zeros(count, 3, dtype=torch.bool),
        shifts=torch.zeros(count, 3, dtype=torch.long),
        warped=torch.zeros(count, dtype=torch.bool),
        matrix=torch.eye(3, 4).repeat(count, 1, 1),
        gain=torch.ones(count, 1),
        offset=torch.zeros(count, 1),
        spread=torch.zeros(count),
        noise=torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(5)),
    )


def moving(matrix: torch.Tensor) -> Augmentation:
    count = len(matrix)
    return replace(still(count), warped=torch.ones(count, dtype=torch.bool), matrix=matrix)


def pairs(generator, count=2):
    return torch.rand(count, 3, *SHAPE, generator=generator) * 2 - 1


def test_without_probability_nothing_is_augmented(generator):
    volume = pairs(generator)
    assert torch.equal(
        augment(volume, draw_augmentation(volume, 0.0, Randomness(generator))), volume
    )


def test_volumes_that_are_not_chosen_keep_their_voxels_to_the_bit(generator):
    volume = pairs(generator, 64)
    drawn = draw_augmentation(volume, 0.1, Randomness(generator))
    out = augment(volume, drawn)
    moved = drawn.warped | drawn.flips.any(1) | drawn.shifts.any(1)
    kept = ~moved & (drawn.gain[:, 0] == 1) & (drawn.spread == 0)
    assert 8 < kept.sum() < 56
    assert torch.equal(out[kept], volume[kept])
    assert not any(torch.equal(a, b) for a, b in zip(out[~kept], volume[~kept], strict=True))


@pytest.mark.parametrize(("coordinate", "axis"), [(0, 4), (1, 3), (2, 2)])
def test_a_negative_coordinate_flips_its_axis_of_image_and_labels_alike(
    coordinate, axis, generator
):
    volume = pairs(generator)
    matrix = torch.eye(3, 4).repeat(2, 1, 1)
    matrix[:, coordinate, coordinate] = -1
    assert torch.allclose(augment(volume, moving(matrix)), volume.flip(axis), atol=1e-5)


def test_a_shift_by_whole_voxels_moves_every_voxel_by_them(generator):
    volume = pairs(generator)
    matrix = torch.eye(3, 4).repeat(2, 1, 1)
    matrix[:, 2, 3] = 2 * 3 / SHAPE[0]
    out = augment(volume, moving(matrix))
    assert torch.allclose(out[:, :, :-3], volume[:, :, 3:], atol=1e-4)


def test_a_quarter_turn_about_z_takes_x_to_y_voxel_for_voxel(generator):
    volume = torch.rand(1, 1, 16, 16, 20, generator=generator)
    turn = torch.tensor([[np.pi / 2, 0.0, 0.0]], dtype=torch.float32)
    matrix = _rotation(turn, torch.tensor([20.0, 16.0, 16.0]))
    drawn = moving(torch.cat([matrix, torch.zeros(1, 3, 1)], dim=2))
    out = augment(volume, replace(drawn, noise=torch.zeros_like(volume)))
    assert torch.allclose(out, torch.rot90(volume, 1, (2, 3)), atol=1e-4) or torch.allclose(
        out, torch.rot90(volume, -1, (2, 3)), atol=1e-4
    )


def test_small_turns_of_an_uneven_grid_keep_distances_in_voxels():
    sizes = torch.tensor([20.0, 24.0, 16.0])
    matrix = _rotation(torch.tensor([[0.1, -0.2, 0.3]]), sizes)[0]
    voxels = torch.diag(sizes) @ matrix @ torch.diag(1 / sizes)
    assert torch.allclose(voxels @ voxels.T, torch.eye(3), atol=1e-5)


def test_left_and_right_are_never_exchanged(generator):
    matrix = draw_augmentation(torch.zeros(400, 1, 2, 2, 2), 1.0, Randomness(generator)).matrix
    assert (matrix[:, 2, 2] > 0).all()
    for axis in (0, 1):
        assert 0.4 < (matrix[:, axis, axis] < 0).float().mean() < 0.6


def test_nothing_is_flipped_where_that_is_not_wanted(generator):
    volume = torch.zeros(200, 1, 16, 16, 16)
    drawn = draw_augmentation(volume, 1.0, Randomness(generator), flip=False)
    assert bool((drawn.matrix.diagonal(dim1=1, dim2=2) > 0).all())
    assert bool(drawn.warped.all())


def test_what_is_not_warped_goes_where_its_matrix_says_without_being_resampled(generator):
    volume = pairs(generator, 24)
    drawn = draw_augmentation(volume, 0.7, Randomness(generator))
    drawn = replace(drawn, warped=torch.zeros(24, dtype=torch.bool))
    turned = (drawn.matrix[:, :, :3].abs() - torch.eye(3)).abs().amax((1, 2)) > 1e-6
    drawn = replace(drawn, noise=torch.zeros(1).expand_as(drawn.noise))
    resampled = augment(volume, replace(drawn, warped=torch.ones(24, dtype=torch.bool)))
    out = augment(volume, drawn)
    assert 4 < (~turned).sum() < 20
    assert torch.allclose(out[~turned], resampled[~turned], atol=1e-4)
    labels = out[:, 1:].flatten(2), volume[:, 1:].flatten(2)
    assert all(torch.isin(a, b).all() for a, b in zip(*labels, strict=True))


@pytest.mark.slow
def test_what_is_only_shifted_and_flipped_keeps_its_values(generator):
    volume = torch.rand(60, 1, *SHAPE, generator=generator)
    drawn = draw_augmentation(volume, 0.3, Randomness(generator))
    sizes = torch.tensor([*reversed(SHAPE)])
    warped = (drawn.matrix[:, :, :3].abs() - torch.eye(3)).abs().amax((1, 2)) > 1e-6
    voxels = drawn.matrix[:, :, 3] * sizes / 2
    assert 0.1 < warped.float().mean() < 0.5
    assert (voxels != 0).any(dim=1).float().mean() > 0.1
    assert (voxels - voxels.round()).abs().max() < 1e-4
    assert (voxels.abs() <= sizes / 8 + 0.5).all()
    out = augment(volume, replace(drawn, gain=torch.ones(60, 1), offset=torch.zeros(60, 1),
                                  spread=torch.zeros(60)))  # fmt: skip
    for number in torch.where(~warped)[0]:
        nearest = torch.cdist(out[number].reshape(-1, 1), volume[number].reshape(-1, 1)).amin(1)
        assert nearest.max() < 1e-3


def test_intensities_of_labels_stay_and_those_of_images_change_as_drawn(generator):
    volume = pairs(generator)
    drawn = replace(
        still(), gain=torch.tensor([[2.0], [1.0]]), offset=torch.tensor([[0.5], [0.0]]),
        spread=torch.tensor([0.0, 0.3]),
    )  # fmt: skip
    out = augment(volume, drawn)
    assert torch.allclose(out[0, 0], 2 * volume[0, 0] + 0.5)
    assert torch.allclose(out[1, 0], volume[1, 0] + 0.3 * drawn.noise[1, 0])
    assert torch.equal(out[:, 1:], volume[:, 1:])


def test_a_gradient_flows_back_through_every_change(generator):
    volume = pairs(generator).requires_grad_(True)
    augment(volume, draw_augmentation(volume, 1.0, Randomness(generator))).sum().backward()
    assert (volume.grad != 0).float().mean() > 0.5
