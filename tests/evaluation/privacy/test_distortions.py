import torch

from medgan.evaluation.privacy.distortions import distort


def volumes() -> torch.Tensor:
    return torch.rand(2, 1, 16, 20, 16, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


def test_a_disguise_is_a_function_of_its_seed():
    assert torch.equal(distort(volumes(), 3), distort(volumes(), 3))
    assert not torch.equal(distort(volumes(), 3), distort(volumes(), 4))


def test_without_any_change_a_volume_stays_as_it_is():
    same = distort(volumes(), 0, *[0.0] * 7)
    assert same.allclose(volumes(), atol=1e-6)


def test_a_disguise_stays_within_intensities_and_changes_every_volume():
    made = distort(volumes(), 0)
    assert made.abs().max() <= 1
    assert ((made - volumes()).abs().mean(dim=(1, 2, 3, 4)) > 0.05).all()


def test_a_shift_alone_moves_a_point_by_at_most_so_many_voxels():
    point = torch.full((1, 1, 17, 17, 17), -1.0)
    point[0, 0, 8, 8, 8] = 1.0
    for seed in range(5):
        moved = distort(point, seed, 2.0, *[0.0] * 6)
        mass = (moved[0, 0] + 1) / (moved + 1).sum()
        centre = [
            float((mass.sum(dim=[d for d in range(3) if d != axis]) * torch.arange(17)).sum())
            for axis in range(3)
        ]
        assert max(abs(c - 8) for c in centre) <= 2.01
        assert max(abs(c - 8) for c in centre) > 0.01
