import torch

from medgan.evaluation.probes.augmentation import classical, unchanged


def pair():
    """Volumes whose bright ball is labelled."""
    axes = torch.meshgrid(*(torch.arange(16.0),) * 3, indexing="ij")
    ball = sum((a - 8) ** 2 for a in axes).sqrt() < 5
    image = torch.where(ball, 0.8, -0.8)[None, None].repeat(3, 1, 1, 1, 1)
    return image, ball.long()[None].repeat(3, 1, 1, 1)


def random():
    return torch.Generator().manual_seed(3)


def test_labels_move_with_their_images():
    image, classes = pair()
    moved, kept = classical(image, classes, random())
    assert not torch.equal(kept, classes)
    inside, outside = moved[:, 0][kept == 1], moved[:, 0][kept == 0]
    assert inside.mean() - outside.mean() > 0.8
    assert ((moved[:, 0] > 0) == (kept == 1)).float().mean() > 0.95


def test_every_volume_is_augmented_in_its_own_way_within_the_range():
    image, classes = pair()
    moved, kept = classical(image, classes, random())
    assert moved.shape == image.shape
    assert kept.dtype == classes.dtype
    assert moved.abs().max() <= 1
    assert not torch.equal(moved[0], moved[1])


def test_augmentation_is_a_function_of_the_source_of_randomness():
    image, classes = pair()
    first, second = classical(image, classes, random()), classical(image, classes, random())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_augmentation_changes_nothing():
    image, classes = pair()
    assert unchanged(image, classes, random()) == (image, classes)
