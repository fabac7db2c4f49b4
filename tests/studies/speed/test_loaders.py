import numpy as np
import pytest
import torch

from medgan.core.config import Preprocessing
from medgan.data.batches import PreparedVolumes
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.studies.speed import loaders
from medgan.studies.speed.turns import measured
from tests.kit.data_sets import write_folder

GRID = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), labels=(1,))
NAMES = ("medgan", "MONAI CacheDataset", "MONAI PersistentDataset", "TorchIO queue")


@pytest.fixture
def cases(tmp_path):
    manifest, _ = index(write_folder(tmp_path / "scans", 6), Pseudonyms(b"salt"))
    return list(manifest.cases)


def volumes_of(batch):
    """Images of a batch of any of the libraries."""
    found = batch["image"]
    return torch.as_tensor(found["data"] if isinstance(found, dict) else found)


def test_medgan_gives_as_many_volumes_in_each_pass(cases, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(loaders, "_consumed", lambda batches: seen.append([*batches]))
    ours = loaders.loaders(cases, GRID, 2, tmp_path / "cache", first=False)[0]
    measured([ours], 2, torch.device("cpu"))
    assert [sum(len(batch) for batch in one) for one in seen] == [6] * 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("first", [True, False])
def test_all_loaders_give_the_same_scans(name, first, cases, tmp_path, monkeypatch):
    if name == "TorchIO queue":
        pytest.importorskip("torchio")
    passes = []
    monkeypatch.setattr(loaders, "_consumed", lambda batches: passes.append([*batches]))
    given = dict(zip(NAMES, loaders.loaders(cases, GRID, 2, tmp_path, first), strict=True))
    (row,) = measured([given[name]], 1, torch.device("cpu"))
    assert "absent" not in row
    found = torch.cat([volumes_of(batch) for batch in passes[-1]])
    assert found.shape == (6, 1, 16, 16, 16)
    own = PreparedVolumes(cases, GRID, tmp_path / "own")
    for number in range(6):
        alike = [
            np.corrcoef(own[number][0].flatten(), one.flatten())[0, 1] for one in found.numpy()
        ]
        assert max(alike) > 0.99
