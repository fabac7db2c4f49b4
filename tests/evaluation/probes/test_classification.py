import numpy as np
import pytest
import torch

from medgan.evaluation.probes.classification import (
    classification_metrics,
    classify,
    train_classifier,
)


def scans(frequent, rare, seed):
    """Noise; the rare group is a little brighter in the middle."""
    random = torch.Generator().manual_seed(seed)
    images = 0.5 * torch.randn(frequent + rare, 1, 16, 16, 16, generator=random)
    images[frequent:, :, 4:12, 4:12, 4:12] += 0.5
    return images.clamp(-1, 1), torch.tensor([0] * frequent + [1] * rare)


def test_a_classifier_learns_two_groups():
    network = train_classifier(*scans(12, 12, 0), steps=40, seed=0)
    images, groups = scans(10, 10, 1)
    found = classification_metrics(
        classify(network, images).double().numpy(), groups.double().numpy()
    )
    assert found.auroc > 0.9
    assert found.balanced_accuracy > 0.8


@pytest.mark.parametrize(("weighted", "share"), [(False, 0.1), (True, 0.5)])
def test_volumes_are_drawn_as_often_as_their_weights_say(weighted, share):
    images, groups = torch.zeros(20, 1, 16, 16, 16), torch.tensor([0] * 18 + [1] * 2)
    images[18:] = 1
    drawn = []

    def watched(image, classes, random):
        drawn.extend((image.flatten(1).mean(dim=1) > 0.5).tolist())
        return image, classes

    weights = 1 / groups.bincount()[groups] if weighted else None
    train_classifier(images, groups, steps=30, seed=0, weights=weights, augment=watched)
    assert np.mean(drawn) == pytest.approx(share, abs=0.08)


def test_verdicts_in_closed_form():
    probability = np.array([0.1, 0.6, 0.2, 0.9, 0.4])
    group = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    found = classification_metrics(probability, group)
    assert found.minority_recall == 0.5
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.auroc == pytest.approx(5 / 6)


def test_a_missing_group_leaves_metrics_open():
    found = classification_metrics(np.array([0.2, 0.7]), np.array([0.0, 0.0]))
    assert np.isnan(found.auroc)
    assert np.isnan(found.minority_recall)
