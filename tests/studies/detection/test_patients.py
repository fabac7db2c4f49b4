import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medgan.anomaly.calibration import ScoringConfig
from medgan.app.pipeline import run_pipeline
from medgan.core.config import LesionsConfig, Preprocessing
from medgan.core.errors import ConfigError, DataError, Exit, ModelError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.reading import read_case
from medgan.studies.detection.patient_maps import FLOORS, OWN
from medgan.studies.detection.patients import REPORT, TABLE, run_patients
from medgan.workflows.score import score_cases
from tests.kit.models import make_model
from tests.kit.pictures import is_drawn

GRID = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16))
SIZE = (18, 20, 16)
AFFINE = np.array([[-2.0, 0, 0, 17], [0, 2, 0, -19], [0, 0, 2, -15], [0, 0, 0, 1]])
CORE, OTHER = np.s_[7:10, 8:11, 6:9], np.s_[11:12, 12:13, 10:11]


def head(seed: int, change: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """One anatomy with noise; and, changed by `change`, a lesion of 27 voxels and one of 1."""
    axes = np.indices(SIZE) - (np.array(SIZE)[:, None, None, None] - 1) / 2
    radius = np.linalg.norm(axes, axis=0)
    noise = np.random.default_rng(seed).normal(0, 2, SIZE)
    scan = np.where(radius < 7, 100 + 6 * axes[2] + noise, 0)
    mask = np.zeros(SIZE, np.uint8)
    if change:
        for value, box in ((1, CORE), (2, OTHER)):
            scan[box] += change
            mask[box] = value
    return scan.astype(np.float32), mask


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = make_model(GRID)
    scans = [Volume(head(seed)[0], AFFINE) for seed in range(20, 32)]
    made.calibrate(scans, ScoringConfig(("residual",), 0.02))
    made.save(tmp_path_factory.mktemp("model") / "model")
    return made


def write_patients(folder: Path, change: float, count: int = 3) -> Path:
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        scan, mask = head(number, change)
        name = f"{folder.name}-{number}"
        Volume(scan, AFFINE).save(folder / f"{name}.nii.gz")
        Volume(mask, AFFINE).save(folder / f"{name}_label.nii.gz")
        rows.append(
            (f"{name}.nii.gz", f"{name}_label.nii.gz", name, 30 + 25 * number, "FM"[number % 2])
        )
    with (folder / "patients.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "subject", "age", "sex"), *rows])
    return folder / "patients.csv"


def manifest(source: Path) -> Manifest:
    return index(source, Pseudonyms(b"test"))[0].with_all_in("test")


def healthy_scans(folder: Path) -> Manifest:
    """Twelve calibration scans and three test scans."""
    folder.mkdir(parents=True)
    for seed in range(15):
        Volume(head(40 + seed)[0], AFFINE).save(folder / f"h{seed:02d}.nii.gz")
    found = index(folder, Pseudonyms(b"test"))[0]
    cases = [(case, "calibration" if n < 12 else "test") for n, case in enumerate(found.cases)]
    return Manifest(tuple(replace(case, split=split) for case, split in cases))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    return healthy_scans(tmp_path_factory.mktemp("healthy") / "scans")


def evaluated(model, source, healthy, out, **settings):
    return run_patients(model, manifest(source), healthy, out, LesionsConfig(**settings))


def test_a_dark_lesion_is_found_by_the_dark_z_score_in_the_scans_own_grid(model, healthy, tmp_path):
    result = evaluated(model, write_patients(tmp_path / "p", -30), healthy, tmp_path)
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {OWN, *FLOORS}
    dark, bright = rows["dark z-score"], rows["bright z-score"]
    assert dark["voxel_auroc"]["value"] > 0.97
    assert bright["voxel_auroc"]["value"] < 0.1
    assert dark["precision_ratio"]["value"] > 20
    assert bright["precision_ratio"]["value"] < 1
    assert dark["dice_best"]["value"] >= dark["dice_voxels"]["value"] > 0.3
    assert dark["lesions"]["voxels"]["all"] == {"found": 6, "lesions": 6}
    assert dark["lesions"]["voxels"]["below 0.1 ml"]["lesions"] == 3
    assert dark["lesions"]["voxels"]["0.1 to 1 ml"]["lesions"] == 3
    assert bright["lesions"]["voxels"]["0.1 to 1 ml"]["found"] == 0
    assert dark["prevalence"]["value"] == pytest.approx(28 / 1400, rel=0.1)
    for name in rows:
        assert name in result["table"]


def test_a_bright_lesion_is_found_by_a_threshold_without_any_healthy_scan(model, tmp_path):
    result = evaluated(model, write_patients(tmp_path / "p", 60), None, tmp_path)
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {OWN, "equalised"}
    assert rows["equalised"]["average_precision"]["value"] > 0.9
    assert rows["equalised"]["dice_voxels"] is None
    assert rows["equalised"]["lesions"]["voxels"] is None
    assert rows[OWN]["lesions"]["regions"]["all"]["lesions"] == 6
    assert result["false_alarms"] == {}


def test_only_the_values_that_are_named_are_lesions(model, tmp_path):
    source = write_patients(tmp_path / "p", 60)
    one, both = (
        evaluated(model, source, None, tmp_path / name, values=values)["scans"]
        for name, values in (("a", (1,)), ("b", ()))
    )
    assert [scan["lesion_ml"] for scan in one] == pytest.approx([27 * 0.008] * 3)
    assert [scan["lesion_ml"] for scan in both] == pytest.approx([28 * 0.008] * 3)


def test_groups_scans_and_tables_hold_pseudonyms_alone(model, healthy, tmp_path):
    result = evaluated(model, write_patients(tmp_path / "secret", -30), healthy, tmp_path)
    assert set(result["groups"]) == {
        "sex F",
        "sex M",
        "age below 40",
        "age 40 to 59",
        "age 80 and above",
    }
    assert result["groups"]["sex F"]["subjects"] == 2
    assert "| sex F | 2 |" in result["table"]
    alarms = result["false_alarms"]["all"]
    assert alarms["scans"] == 3
    for name in FLOORS:
        # 1% of some 1400 voxels lie above the threshold, far from each other or not.
        assert 1 <= alarms["parts"][name]["voxels"]["value"] <= 40
    assert alarms["parts"]["equalised"]["regions"] is None
    assert len(result["scans"]) == 3
    for scan in result["scans"]:
        assert scan["comparable"] == (scan["p_value"] is not None)
        assert scan["case"] in result["table"]
    lines = list(csv.DictReader((tmp_path / TABLE).read_text().splitlines()))
    assert len(lines) == 3 * len(result["rows"])
    assert {line["map"] for line in lines} == {row["name"] for row in result["rows"]}
    assert {line["lesions"] for line in lines} == {"2"}
    text = (tmp_path / TABLE).read_text() + (tmp_path / REPORT).read_text()
    assert "secret" not in text
    assert json.loads((tmp_path / REPORT).read_text())["rows"] == json.loads(
        json.dumps(result["rows"])
    )
    assert is_drawn(tmp_path / "patients.png")


def test_scores_are_adjusted_for_measured_covariates_as_medgan_score_adjusts_them(
    tmp_path,
):
    model, name = make_model(GRID), "label_1_mm3"
    scans = [Volume(head(seed)[0], AFFINE) for seed in range(20, 32)]
    sizes = [{name: float(10 * number)} for number in range(12)]
    config = ScoringConfig(("residual",), 0.02, {name: "continuous"})
    model.calibrate(scans, config, covariates=sizes)
    source = write_patients(tmp_path / "p", -30)
    found = evaluated(model, source, None, tmp_path)["scans"]
    rows, _ = score_cases(model, manifest(source).cases, tmp_path / "scores")
    unadjusted = {case.case: model.score(read_case(case).volumes[0]) for case in
                  manifest(source).cases}  # fmt: skip
    assert {one["case"]: one["score"] for one in found} == {r["case"]: r["score"] for r in rows}
    assert all(abs(one["score"] - unadjusted[one["case"]].score) > 0.01 for one in found)


def test_a_scan_without_any_lesion_counts_for_false_alarms_alone(model, healthy, tmp_path):
    source = write_patients(tmp_path / "p", -30, count=2)
    folder = source.parent
    Volume(np.zeros(SIZE, np.uint8), AFFINE).save(folder / "p-1_label.nii.gz")
    result = evaluated(model, source, healthy, tmp_path / "out")
    lines = list(csv.DictReader((tmp_path / "out" / TABLE).read_text().splitlines()))
    empty = [line for line in lines if float(line["lesion_ml"]) == 0]
    assert len(empty) == len(result["rows"])
    for line in empty:
        assert line["voxel_auroc"] == line["average_precision"] == line["dice_best"] == ""
        assert line["false_alarms_voxels"] != ""
    row = next(row for row in result["rows"] if row["name"] == "dark z-score")
    assert row["lesions"]["voxels"]["all"]["lesions"] == 2


def test_masks_on_another_grid_and_missing_ones_are_refused_by_their_codes(model, tmp_path):
    model.save(tmp_path / "model")
    source = write_patients(tmp_path / "p", 60)
    folder = source.parent
    moved = AFFINE.copy()
    moved[0, 3] += 2
    Volume(head(0, 60)[1], moved).save(folder / "p-0_label.nii.gz")
    text = source.read_text().replace("p-1_label.nii.gz", "")
    source.write_text(text)
    run = run_pipeline(
        "lesions",
        [f"out={tmp_path / 'out'}", f"model_uri={tmp_path / 'model'}", f"data.source={source}"],
    )
    assert {refusal.code for refusal in run.refusals} == {"E_LABEL_GRID", "E_MASK"}
    assert run.exit_status == Exit.REFUSED
    assert len(json.loads((tmp_path / "out" / REPORT).read_text())["scans"]) == 1


def test_what_cannot_be_evaluated_is_said(model, tmp_path):
    source = write_patients(tmp_path / "p", 60)
    with pytest.raises(ConfigError, match="E_SCORER"):
        evaluated(model, source, None, tmp_path, scorers=("magic",))
    with pytest.raises(ModelError, match="E_UNCALIBRATED"):
        evaluated(make_model(GRID), source, None, tmp_path)
    source.write_text("image,subject\np-0.nii.gz,p")
    with pytest.raises(DataError, match="E_NO_SCANS"):
        evaluated(model, source, None, tmp_path)
