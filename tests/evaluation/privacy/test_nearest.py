"""The nearest training scans of synthetic ones."""

import torch

from medgan.evaluation.privacy.distortions import distort
from medgan.evaluation.privacy.nearest import nearest_scans
from tests.kit.volumes import subjects


def test_a_copy_is_nearer_than_any_two_subjects_and_a_fresh_scan_is_not():
    training, fresh = subjects(20, 0), subjects(4, 1)
    fakes = torch.cat([distort(training[5:6], 0), fresh])
    found = nearest_scans(fakes, training, torch.arange(20), most=2)
    assert int(found.numbers[0, 0]) == 5
    assert found.share_as_near(0) == 0
    assert all(found.share_as_near(row) > 0 for row in range(1, 5))
    assert found.similarities.shape == (5, 2)
    assert (found.similarities[:, 0] >= found.similarities[:, 1]).all()


def test_two_scans_of_one_subject_do_not_make_copies_look_usual():
    training = subjects(6, 0)
    twice = torch.cat([training, distort(training[:1], 1)])
    found = nearest_scans(distort(training[2:3], 0), twice, torch.tensor([0, 1, 2, 3, 4, 5, 0]))
    assert found.share_as_near(0) == 0
    assert nearest_scans(training[:1], twice, torch.arange(7)).among.max() > found.among.max()
