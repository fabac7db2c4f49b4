import csv
import json
from dataclasses import replace

import pytest

from medgan.core.config import DetectionConfig, LocaliserConfig
from medgan.core.errors import ConfigError, DataError
from medgan.data.lesions import FAMILIES
from medgan.studies.detection import benchmark, scorers
from medgan.studies.detection.benchmark import run_benchmark
from medgan.studies.detection.scorers import FOLDS
from tests.kit.data_sets import write_folder

SETTINGS = DetectionConfig(families=("brighter", "fill"), lesions_per_family=1)


LOCALISER = LocaliserConfig.model_validate({"volumes": 16})


@pytest.fixture(autouse=True)
def short_baselines(monkeypatch):
    monkeypatch.setattr(scorers, "BASELINE_VOLUMES", 16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from medgan.app.pipeline import run_pipeline

    folder = tmp_path_factory.mktemp("detection")
    scans = write_folder(folder / "scans", 24)
    return run_pipeline(
        "train",
        [
            f"out={folder / 'run'}", f"data.source={scans}", "data.spacing=[2,2,2]",
            "data.shape=[16,16,16]", "data.fractions=[0.5,0.1,0.2,0.2]", "tracking.uri=none",
            "model.latent=8", "model.widths=[8,8]", "model.stem_channels=8", "train.volumes=16",
            "train.batch=2", "train.warmup=4", "localiser.volumes=8",
        ],
    )  # fmt: skip


def test_every_family_is_left_out_of_one_fold():
    assert sorted(family for fold in FOLDS for family in fold) == sorted(FAMILIES)


def test_every_scorer_is_evaluated_on_the_same_lesions_and_written(trained, tmp_path):
    result = run_benchmark(trained.model(), trained.manifest(), tmp_path, SETTINGS, LOCALISER)
    rows = {row["name"]: row for row in result["rows"]}
    own = {*benchmark.SCORERS, *benchmark.COMBINATIONS}
    assert {name for name, row in rows.items() if row["own"]} == own
    assert {"histogram", "atlas", "pca", "local_features", "untrained", "denoiser"} <= set(rows)
    for row in rows.values():
        assert 0 <= row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"] <= 1
        assert set(row["by_family"]) == {"brighter", "fill"}
        assert row["prevalence"] > 0
    assert rows["density + localiser"]["auroc_difference"]["baseline"] not in own
    assert json.loads((tmp_path / "detection.json").read_text())["rows"] == result["rows"]
    scans = result["protocol"]["scans"]["test"]
    for row in rows.values():
        assert 0 <= row["uniform_p"] <= 1
        assert len(row["p_values"]) == scans
    assert all(row["control_auroc"] == 0.5 for row in rows.values() if row["own"])
    lesions = list(csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines()))
    assert len(lesions) == 3 * scans
    assert {row["family"] for row in lesions} == {"brighter", "fill", "control"}
    for name in ("scorers.png", "lesions.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    for name in rows:
        assert name in result["table"]


def test_the_same_seed_gives_the_same_results(trained, tmp_path, monkeypatch):
    few = SETTINGS.model_copy(update={"families": ("fill",)})
    monkeypatch.setattr(benchmark, "SCORERS", ("residual", "localiser"))
    monkeypatch.setattr(benchmark, "COMBINATIONS", {})
    first, again = (
        run_benchmark(trained.model(), trained.manifest(), tmp_path / name, few, LOCALISER)
        for name in "ab"
    )
    for a, b in zip(first["rows"], again["rows"], strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_scans_that_cannot_be_prepared_are_left_out(trained, tmp_path, monkeypatch):
    few = SETTINGS.model_copy(update={"families": ("fill",)})
    monkeypatch.setattr(benchmark, "SCORERS", ("residual", "localiser"))
    monkeypatch.setattr(benchmark, "COMBINATIONS", {})
    absent = {"images": {"image": str(tmp_path / "absent.nii.gz")}, "hashes": {"image": "0" * 64}}

    def without(*splits):
        manifest, refused = trained.manifest(), []
        gone = {manifest.split(split)[0].case for split in splits}
        cases = tuple(replace(c, **absent) if c.case in gone else c for c in manifest.cases)
        found = run_benchmark(
            trained.model(), replace(manifest, cases=cases), tmp_path, few, LOCALISER,
            refuse=refused.extend,
        )  # fmt: skip
        assert {refusal.case for refusal in refused} == gone
        return found

    found = without("train", "test")
    assert found["protocol"]["scans"] == {"train": 11, "calibration": 5, "test": 4}
    assert all(len(row["p_values"]) == 4 for row in found["rows"])
    with pytest.raises(DataError, match="E_SPLIT 4 healthy scans in calibration"):
        without("calibration")


def test_an_unknown_scorer_is_refused_before_anything_is_trained(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "COMBINATIONS", {"all": ("density", "intuition")})
    with pytest.raises(ConfigError, match="intuition") as caught:
        run_benchmark(trained.model(), trained.manifest(), tmp_path, SETTINGS, LOCALISER)
    assert caught.value.code == "E_SCORER"
    assert not list(tmp_path.glob("fold*"))
