import pytest
import torch

from medgan.core.config import build
from medgan.data.batches import PreparedVolumes
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.studies.speed.steps import training_steps
from medgan.studies.speed.turns import measured
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import GRID

CPU = torch.device("cpu")


@pytest.fixture
def steps(tmp_path):
    manifest, _ = index(write_folder(tmp_path / "scans", 4), Pseudonyms(b"salt"))
    volumes = PreparedVolumes(list(manifest.cases), GRID, tmp_path / "cache")
    return {one.name: one for one in training_steps(build(TINY), volumes, GRID, CPU)}


def test_steps_with_and_without_labels_and_of_a_plain_gan_as_large_are_timed(steps):
    rows = measured(
        [steps[name] for name in ("medgan", "medgan, image alone", "plain GAN")], 1, CPU
    )
    whole, alone, plain = (row["parameters_millions"] for row in rows)
    assert whole > alone > 0
    assert plain == pytest.approx(whole, rel=0.15)
    assert all(row["milliseconds"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_monais_trainer_and_ha_gan_run(steps):
    names = ["medgan", "HA-GAN"]
    try:
        import ignite  # noqa: F401

        names.append("MONAI GanTrainer")
    except ImportError:
        row = measured([steps["medgan"], steps["MONAI GanTrainer"]], 1, CPU)[1]
        assert "ignite is not installed" in row["absent"]
    rows = measured([steps[name] for name in names], 1, CPU)
    assert all(row["milliseconds"] > 0 for row in rows)
