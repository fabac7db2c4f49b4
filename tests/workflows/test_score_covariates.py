"""`medgan calibrate` and `medgan score` given age and sex, from tables to the log and the page."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

import medgan
from medgan.core.volume import Volume
from tests.kit.command_line import inside
from tests.kit.models import make_model
from tests.kit.volumes import AFFINE, ball

COVARIATES = "score.covariates={age: continuous, sex: categorical}"


def write_table(folder: Path, ages, seed: int = 0) -> Path:
    """Balls, and a table with age and sex."""
    rng = np.random.default_rng(seed)
    rows = ["image,age,sex,diagnosis"]
    for number, age in enumerate(ages):
        name = f"{number:02d}.nii.gz"
        Volume(ball(rng).astype(np.float32), AFFINE).save(folder / name)
        rows.append(f"{name},{age},{'FM'[number % 2]},healthy")
    path = folder / "table.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    make_model().save(folder / "model")
    table = write_table(folder / "healthy", np.linspace(20, 60, 22).round())
    done = inside(
        "calibrate", folder / "model", table, "-o", folder / "run", "--set", COVARIATES,
        "--set", "score.scorers=[residual]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "- Scores adjusted for: age, sex" in (folder / "model" / "card.md").read_text()
    return folder / "model"


def test_scans_are_scored_given_their_table_and_the_log_says_what_lies_outside(
    calibrated, tmp_path, caplog
):
    table = write_table(tmp_path / "new", ["30", "80", "n/a", *[50] * 9], seed=9)
    done = inside(
        "score", calibrated, table, "-o", tmp_path / "out",
        "--set", "data.healthy={diagnosis: [healthy]}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = caplog.text
    assert "age of 1 of 12 scans lies outside the 20 to 60 of the healthy calibration" in said
    assert "age is unknown of 1 of 12 scans: they are not adjusted for it" in said
    assert said.count("is unknown of") == 1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]
    cases = {case["case"]: case for case in manifest}
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert not {"age", "sex", "adjusted", "remarks"} & set(rows[0])
    model = medgan.load(calibrated)
    for row in rows:
        case = cases[row["case"]]
        expected = model.score(case["images"]["image"], covariates=case["covariates"])
        assert float(row["score"]) == pytest.approx(expected.score, abs=1e-4)
        assert row["explanation"] == expected.explanation
        assert "adjusted for age and sex" in row["explanation"] or row["comparable"] == "False"


def test_the_page_has_false_alarms_by_age_and_sex_where_groups_are_large_enough(
    calibrated, tmp_path
):
    table = write_table(tmp_path / "new", [*[30] * 12, *[70] * 12], seed=11)
    done = inside(
        "score", calibrated, table, "-o", tmp_path / "out",
        "--set", "data.healthy={diagnosis: [healthy]}", "--set", "score.false_alarms=0.1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]
    cases = {case["case"]: case["covariates"] for case in manifest}
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["comparable"] == "True"]
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    found = dict(
        (name, (int(n), int(k)))
        for name, n, k in re.findall(
            r'<th scope="row">([^<]+)</th><td class="number">(\d+)</td><td class="number">(\d+)<',
            page,
        )
    )
    for name, belongs in (
        ("all", lambda c: True), ("age below 40", lambda c: c["age"] == "30"),
        ("age 60 to 79", lambda c: c["age"] == "70"), ("sex F", lambda c: c["sex"] == "F"),
    ):  # fmt: skip
        some = [row for row in rows if belongs(cases[row["case"]])]
        if len(some) >= 10:
            assert found[name] == (len(some), sum(float(r["p_value"]) <= 0.1 for r in some))
        else:
            assert name not in found
    assert found["all"][0] >= 20
    assert "age below 40" in found


def test_no_table_of_false_alarms_without_known_health(calibrated, tmp_path):
    table = write_table(tmp_path / "new", [30] * 12, seed=12)
    done = inside("score", calibrated, table, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "<h2>False alarms" not in (tmp_path / "out" / "report" / "index.html").read_text()


def test_a_covariate_that_no_healthy_scan_has_stops_the_calibration(tmp_path):
    make_model().save(tmp_path / "model")
    table = write_table(tmp_path / "healthy", [30] * 6)
    done = inside(
        "calibrate", tmp_path / "model", table, "-o", tmp_path / "run",
        "--set", "score.covariates={weight: continuous}", "--set", "score.scorers=[residual]",
    )  # fmt: skip
    assert done.returncode == 2
    assert "E_CONDITION" in done.stderr
    assert "age" in done.stderr
