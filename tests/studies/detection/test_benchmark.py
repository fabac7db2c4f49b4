import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from medgan.anomaly.calibration import ScoringConfig
from medgan.anomaly.scorers import SCORERS
from medgan.app.steps.studies import _test_shapes
from medgan.core.config import DetectionConfig, LocaliserConfig, Preprocessing, build
from medgan.core.errors import ConfigError, DataError
from medgan.core.template import PERCENTILES, Template
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.lesions import FAMILIES
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.shape_library import LesionShape
from medgan.data.splits import with_drawn_splits
from medgan.model.fresh_networks import restoring_networks
from medgan.model.model import Model
from medgan.networks.gan import Networks
from medgan.studies.detection import benchmark, scorers
from medgan.studies.detection.benchmark import run_benchmark
from medgan.studies.detection.scorers import FOLDS
from tests.kit.data_sets import write_folder
from tests.kit.models import SIZES, make_model
from tests.kit.pictures import is_drawn
from tests.kit.volumes import AFFINE, SIZE, layered_brain

pytestmark = pytest.mark.long

OWN = {*benchmark.SCORERS, *benchmark.COMBINATIONS}
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


def test_the_rows_are_of_scorers_that_there_are():
    members = {name for several in benchmark.COMBINATIONS.values() for name in several}
    assert {*benchmark.SCORERS, *members} <= set(SCORERS)


def test_every_scorer_is_evaluated_on_the_same_lesions_and_written(trained, tmp_path):
    result = run_benchmark(trained.model(), trained.manifest(), tmp_path, SETTINGS, LOCALISER)
    rows = {row["name"]: row for row in result["rows"]}
    own = {name for name, row in rows.items() if row["own"]}
    without_template = {"darker", "brighter", "restoration"}
    assert own == {name for name in OWN if not without_template & set(name.split(" + "))}
    assert {"histogram", "atlas", "pca", "local_features", "untrained", "denoiser"} <= set(rows)
    for row in rows.values():
        assert 0 <= row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"] <= 1
        assert set(row["by_family"]) == {"brighter", "fill"}
        assert row["prevalence"] > 0
    assert rows["density + localiser"]["auroc_difference"]["baseline"] not in own
    assert json.loads((tmp_path / "detection.json").read_text())["rows"] == result["rows"]
    scans = result["protocol"]["scans"]["test"]
    assert result["protocol"]["localiser_volumes"] == [16, 16]
    for row in rows.values():
        assert 0 <= row["uniform_p"] <= 1
        assert len(row["p_values"]) == scans
    assert all(row["control_auroc"] == 0.5 for row in rows.values() if row["own"])
    lesions = list(csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines()))
    assert len(lesions) == 3 * scans
    assert {row["family"] for row in lesions} == {"brighter", "fill", "control"}
    for name in ("scorers.png", "lesions.png"):
        assert is_drawn(tmp_path / name)
    for name in rows:
        assert name in result["table"]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """A calibrated model that was never trained, and the manifest of its scans."""
    folder, rng = tmp_path_factory.mktemp("brains"), np.random.default_rng(0)
    for number in range(26):
        volume = Volume(layered_brain(rng).astype(np.float32), AFFINE)
        volume.save(folder / f"brain-{number:02d}.nii.gz")
    manifest = with_drawn_splits(index(folder, Pseudonyms(b"test"))[0], (0.4, 0.1, 0.25, 0.25), 0)
    model = make_model(Preprocessing(spacing=(2, 2, 2), shape=SIZE))
    known = [Volume.load(case.image) for case in manifest.split("calibration")]
    model.calibrate(known, ScoringConfig(("residual", "similarity"), 0.02))
    return model, manifest


def ball_of(radius: int, x: float) -> LesionShape:
    """At 2 mm in a head of 144 mm, so a tenth of that in a scan of 14 voxels."""
    grid = np.indices((2 * radius + 1,) * 3) - radius
    return LesionShape(np.linalg.norm(grid, axis=0) <= radius, (x, 0.5, 0.5))


@pytest.mark.slow
def test_shapes_are_planted_dark_and_bright_and_nothing_is_trained(brains, tmp_path):
    model, manifest = brains
    only = DetectionConfig(families=(), lesions_per_family=2)
    shapes = [ball_of(12, 0.2), ball_of(14, 0.3), ball_of(16, 0.8)]
    result = run_benchmark(model, manifest, tmp_path, only, LOCALISER, shapes=shapes)
    assert result["rows"] == []
    assert not list(tmp_path.glob("fold*"))
    assert result["protocol"]["shapes"] == 3
    scans, found = result["protocol"]["scans"]["test"], result["shapes"]
    assert found["lesions"] == 2 * 2 * scans
    rows = {row["name"]: row for row in found["rows"]}
    assert {"density", "residual + similarity", "dark z-score", "equalised"} <= set(rows)
    assert not {"denoiser", "untrained", "localiser"} & set(rows)
    for row in rows.values():
        assert set(row["by_family"]) == {"dark shape", "bright shape"}
        assert sum(one["lesions"] for one in row["by_size"].values()) == found["lesions"]
    dark, bright = (rows[f"{kind} z-score"]["by_family"] for kind in ("dark", "bright"))
    for metric in ("auroc", "average_precision"):
        assert dark["dark shape"][metric] > bright["dark shape"][metric]
        assert bright["bright shape"][metric] > dark["bright shape"][metric]
    lesions = list(csv.DictReader((tmp_path / "shapes.csv").read_text().splitlines()))
    assert len(lesions) == found["lesions"]
    assert {row["shape"] for row in lesions} <= {"0", "1", "2"}
    assert is_drawn(tmp_path / "shapes.png")
    for name in rows:
        assert result["table"].count(f"| {name} |") + result["table"].count(f"**{name}**") >= 2


def test_a_model_without_generator_is_measured_by_the_scorers_that_it_has(
    brains, tmp_path, monkeypatch
):
    """So is one whose scans are aligned, which has `darker` and `brighter` beside the localiser."""
    _, manifest = brains
    monkeypatch.setattr(benchmark, "_baselines", lambda *_: [])
    scans = np.stack([layered_brain(np.random.default_rng(n)) for n in range(8)])
    scans = np.clip(scans / scans.max() * 2 - 1, -1, 1).astype(np.float32)[:, None]
    marks = np.linspace(-0.9, 0.9, len(PERCENTILES), dtype=np.float32)[None]
    template = Template(scans.mean(axis=0), scans.std(axis=0), marks, 0.5)
    grid = Preprocessing(spacing=(2, 2, 2), shape=SIZE, align="rigid", template=template)
    bare = Model(Networks(), grid, SIZES, {"training_scans": 3})
    few = SETTINGS.model_copy(update={"families": ("fill",)})
    found = run_benchmark(bare, manifest, tmp_path, few, LOCALISER)
    assert {row["name"] for row in found["rows"]} == {
        *("localiser", "density", "darker", "brighter"),
        *("density + localiser", "localiser + darker"),
    }  # fmt: skip


def test_f_anogan_is_no_baseline_of_a_restorer_which_has_a_discriminator_but_no_generator():
    grid = Preprocessing(spacing=(2, 2, 2), shape=SIZE)
    restoring = Model(restoring_networks(grid, SIZES), grid, SIZES, {})
    assert restoring.networks.discriminator is not None
    found = scorers.baseline_scorers(restoring, torch.zeros(2, 1, *SIZE), 0, learned=True)
    assert "denoiser" in found
    assert "f_anogan" not in found


def test_shapes_that_fit_nowhere_are_refused_by_their_code(brains, tmp_path):
    only, outside = DetectionConfig(families=()), [ball_of(9, -2.0)]
    with pytest.raises(DataError, match="E_SHAPES"):
        run_benchmark(*brains, tmp_path, only, LOCALISER, shapes=outside)


def test_shapes_of_a_folder_that_the_splits_name_are_those_of_its_test_subjects(tmp_path):
    masks = tmp_path / "masks"
    for name, size in (("sub-1", 4), ("sub-2", 6), ("sub-3", 8)):
        data = np.zeros((70, 80, 70), np.uint8)
        data[30 : 30 + size, 30 : 30 + size, 30 : 30 + size] = 1
        affine = np.diag([2.0, 2, 2, 1])
        affine[:3, 3] = -70
        Volume(data, affine).save(masks / f"{name}_mask.nii.gz")
    sections = {"masks": {"train": ["sub-1"], "calibration": [], "test": ["sub-2", "sub-3"]}}
    (tmp_path / "splits.json").write_text(json.dumps(sections))
    settings = {"detection": {"shapes": str(masks), "families": []}}
    named = {"data": {"splits": str(tmp_path / "splits.json")}}
    sizes = [
        {round(shape.millilitres / 0.008) for shape in _test_shapes(build(values))}
        for values in (settings, settings | named)
    ]
    assert sizes == [{64, 216, 512}, {216, 512}]
    with pytest.raises(ConfigError, match="E_VALUE"):
        _test_shapes(build({"detection": {"families": []}}))
    assert _test_shapes(build({})) == ()
