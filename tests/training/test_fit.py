from dataclasses import replace

import pytest

from medgan.core.errors import DataError
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.training.fit import train_model
from tests.kit.data_sets import tiny_config, write_folder


@pytest.fixture
def manifest(tmp_path):
    """Eight scans for training, two each for validation, calibration and test."""
    found, _ = index(write_folder(tmp_path / "scans", 14), Pseudonyms(b"x"))
    splits = ["train"] * 8 + ["validation"] * 2 + ["calibration"] * 2 + ["test"] * 2
    cases = (replace(c, split=s) for c, s in zip(found.cases, splits, strict=True))
    return replace(found, cases=tuple(cases))


def trained(tmp_path, manifest):
    config = tiny_config(tmp_path, "train.volumes=4")
    return train_model(config, manifest, tmp_path / "run", tmp_path / "model", {}, lambda: None)


def test_a_training_reads_neither_calibration_nor_test_scans(tmp_path, manifest):
    """Their files do not exist any more: a training that looked for them would fail."""
    absent = {"image": str(tmp_path / "absent.nii.gz")}
    cases = (
        replace(c, images=absent) if c.split in ("calibration", "test") else c
        for c in manifest.cases
    )
    trained(tmp_path, replace(manifest, cases=tuple(cases)))
    assert (tmp_path / "model" / "config.json").is_file()


def test_a_training_without_validation_scans_is_refused(tmp_path, manifest):
    cases = tuple(c for c in manifest.cases if c.split != "validation")
    with pytest.raises(DataError, match="0 validation scans"):
        trained(tmp_path, replace(manifest, cases=cases))
