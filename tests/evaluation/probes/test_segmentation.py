import pytest
import torch
import torch.nn.functional as F

from medgan.evaluation.probes.segmentation import (
    _field,
    augment_pair,
    dice_by_label,
    dice_of_scans,
    hausdorff95,
    segment,
    train_segmenter,
)


def pairs(count, seed):
    """Smooth volumes; label 1 is what is bright, label 2 what is dark."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 4, 4, 4, generator=random)
    image = F.interpolate(coarse, size=(16, 16, 16), mode="trilinear").clamp(-1, 1)
    return image, ((image > 0.4).long() + 2 * (image < -0.4).long())[:, 0]


@pytest.fixture(scope="module")
def network():
    return train_segmenter(*pairs(12, 0), labels=2, steps=60, seed=0)


def test_a_segmenter_learns_a_threshold(network):
    image, classes = pairs(6, 1)
    dice = dice_by_label(segment(network, image), classes, 2)
    assert dice.shape == (2,)
    assert dice.min() > 0.8


def test_labels_that_do_not_fit_their_images_are_found_out(network):
    image, classes = pairs(6, 1)
    assert dice_by_label(segment(network, image), classes.roll(1, 0), 2).max() < 0.6


def test_a_segmenter_depends_on_the_seed_alone():
    def weights(seed):
        network = train_segmenter(*pairs(4, 0), labels=2, steps=2, seed=seed)
        return torch.cat([p.flatten() for p in network.parameters()])

    torch.manual_seed(7)
    first = weights(0)
    torch.manual_seed(8)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


def test_dice_in_closed_form():
    truth = torch.zeros(2, 2, 2, 2, dtype=torch.long)
    truth[0, 0] = 1
    predicted = truth.clone()
    predicted[0, 0, 0] = 0  # two of four voxels found: 2 * 2 / (2 + 4)
    truth[1, 0, 0, 0], predicted[1, 1, 1, 1] = 2, 2
    dice = dice_by_label(predicted, truth, 3)
    assert dice[0] == pytest.approx(2 / 3)  # the second volume has no label 1 and does not count
    assert dice[1] == 0
    assert dice[2].isnan()
    present = truth.unique()[1:].tolist()
    assert torch.equal(dice_by_label(truth, truth, 3)[: len(present)], torch.ones(2).double())


def test_augmentation_moves_image_and_classes_together():
    image, classes = pairs(4, 0)
    marked = classes.float()[:, None] - 1  # an image whose values say the class
    moved, kept = augment_pair(marked, classes, torch.Generator().manual_seed(0))
    assert not torch.equal(kept, classes)
    inside = F.max_pool3d(kept.float(), 3, 1, 1) == -F.max_pool3d(-kept.float(), 3, 1, 1)
    means = [float(moved[:, 0][inside & (kept == label)].mean()) for label in (0, 1, 2)]
    assert means[0] < -0.6 < -0.3 < means[1] < 0.3 < 0.6 < means[2]
    assert moved.min() >= -1
    assert moved.max() <= 1
    again, _ = augment_pair(image, classes, torch.Generator().manual_seed(1))
    assert torch.equal(again, augment_pair(image, classes, torch.Generator().manual_seed(1))[0])


def test_a_pair_is_turned_and_zoomed_in_voxels_not_in_fractions_of_unequal_edges(generator):
    """Neighbours are read from places at right angles, all a zoom apart."""
    shape, zoom = (16, 48, 32), torch.tensor([0.9, 1.1])
    turn = torch.randn(2, 3, generator=generator)
    field = _field(turn, zoom, shape)
    assert torch.allclose(field.mean(dim=(1, 2, 3)), torch.zeros(2, 3), atol=1e-5)
    voxels = field.flip(-1) * torch.tensor(shape) / 2
    start = voxels[:, :-1, :-1, :-1]
    ends = voxels[:, 1:, :-1, :-1], voxels[:, :-1, 1:, :-1], voxels[:, :-1, :-1, 1:]
    steps = torch.stack([end - start for end in ends], dim=-1)
    gram = steps.transpose(-1, -2) @ steps
    expected = zoom[:, None, None] ** 2 * torch.eye(3)
    assert torch.allclose(gram, expected[:, None, None, None].expand_as(gram), atol=1e-3)


def test_no_turn_and_no_zoom_reads_every_voxel_where_it_is(generator):
    volume = torch.randn(1, 1, 16, 24, 32, generator=generator)
    field = _field(torch.zeros(1, 3), torch.ones(1), (16, 24, 32))
    assert torch.allclose(F.grid_sample(volume, field, align_corners=False), volume, atol=1e-4)


def test_dice_of_scans_averages_to_dice_by_label():
    _, truth = pairs(5, 2)
    _, other = pairs(5, 3)
    of_scans = dice_of_scans(other, truth, 3)
    assert of_scans.shape == (5, 3)
    assert of_scans[:, 2].isnan().all()
    both = dice_by_label(other, truth, 3)
    assert torch.equal(of_scans[:, :2].mean(dim=0), both[:2])


def test_surfaces_a_known_way_apart_are_so_many_millimetres_apart():
    truth = torch.zeros(2, 16, 16, 16, dtype=torch.long)
    truth[:, 4:8] = 1
    predicted = truth.roll(3, 1)
    distance = hausdorff95(predicted, truth, 1, (2.0, 1.0, 1.0))
    assert torch.allclose(distance, torch.full((2, 1), 6.0, dtype=torch.float64))
    assert hausdorff95(truth, truth, 1, (2.0, 1.0, 1.0)).eq(0).all()


def test_a_label_that_one_side_lacks_is_the_whole_grid_away():
    truth = torch.zeros(1, 16, 16, 16, dtype=torch.long)
    truth[:, 4:8] = 1
    distance = hausdorff95(torch.zeros_like(truth), truth, 2, (1.0, 1.0, 1.0))
    assert float(distance[0, 0]) == pytest.approx(16 * 3**0.5)
    assert distance[0, 1].isnan()
