import pytest
import torch

from medgan.studies.baselines import patchcore
from medgan.studies.baselines.patchcore import PatchCore, as_slices
from medgan.studies.speed.scoring import scoring
from medgan.studies.speed.turns import measured
from tests.kit.models import CONFIG, GRID

CPU = torch.device("cpu")


class Prepared:
    """Prepared volumes that are in memory."""

    def __init__(self, count):
        self.images = torch.rand(count, 1, 16, 16, 16) * 2 - 1

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        return self.images[number], None, False

    def batches(self, size=8):
        return iter(self.images.split(size))


def test_medgan_and_f_anogan_score_scans():
    ours, f_anogan, *_ = scoring(CONFIG, Prepared(6), GRID, CPU)
    rows = measured([ours, f_anogan], 1, CPU)
    assert [row["name"] for row in rows] == ["medgan", "f-AnoGAN"]
    assert all(row["milliseconds"] > 0 for row in rows)


def test_slices_are_axial_and_in_order():
    volumes = torch.arange(2 * 2 * 3 * 4.0).reshape(2, 1, 2, 3, 4)
    slices = as_slices(volumes)
    assert slices.shape == (8, 1, 2, 3)
    assert torch.equal(slices[5, 0], volumes[1, 0, :, :, 1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_a_patch_that_patchcore_remembers_is_nearer_than_one_that_it_does_not(monkeypatch):
    pytest.importorskip("anomalib")
    monkeypatch.setattr(patchcore, "BACKBONE", "resnet18")
    healthy = Prepared(2).images
    method = PatchCore(healthy, 64, 0, CPU)
    assert method.memory == 8 * 8 * 8
    odd = healthy[:1].clone()
    odd[..., 8:, 8:, 4:8] = 1.0
    assert method.map(odd).shape == odd.shape
    assert method.map(odd)[..., 4:8].mean() > method.map(healthy[:1])[..., 4:8].mean()
