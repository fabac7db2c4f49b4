import logging
import math
from dataclasses import replace

import pytest

from medgan.core.errors import DataError
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.training.fit import train_model
from tests.kit.data_sets import tiny_config, write_folder


def in_splits(folder, **counts):
    """A manifest of small scans with so many in each split."""
    found, _ = index(write_folder(folder, sum(counts.values())), Pseudonyms(b"x"))
    splits = [name for name, count in counts.items() for _ in range(count)]
    cases = (replace(c, split=s) for c, s in zip(found.cases, splits, strict=True))
    return replace(found, cases=tuple(cases))


@pytest.fixture
def manifest(tmp_path):
    """Eight scans for training, two each for validation, calibration and test."""
    return in_splits(tmp_path / "scans", train=8, validation=2, calibration=2, test=2)


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


@pytest.mark.parametrize(("train", "validation"), [(2, 2), (8, 3), (8, 8)])
def test_few_validation_scans_give_finite_metrics_and_a_warning(
    tmp_path, caplog, train, validation
):
    manifest = in_splits(tmp_path / "scans", train=train, validation=validation)
    with caplog.at_level(logging.WARNING, logger="medgan.training.fit"):
        found = trained(tmp_path, manifest)
    metrics = {name: value for name, value in found.items() if name.startswith("samples/")}
    assert {"samples/kernel_distance", "samples/kernel_distance_floor"} <= metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    said = f"{validation} validation scans are few" in caplog.text
    assert said == (validation < 8)


def test_a_single_validation_scan_is_refused(tmp_path):
    manifest = in_splits(tmp_path / "scans", train=4, validation=1)
    with pytest.raises(DataError, match="1 validation scans"):
        trained(tmp_path, manifest)
