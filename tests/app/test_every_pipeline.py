"""Each pipeline file says what to expect, and each training among them runs on tiny scans."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import CliRunner

import medgan
from medgan.app.cli import app
from medgan.app.pipeline import run_pipeline
from medgan.app.pipeline_files import read_pipeline
from medgan.app.presets import find_pipeline, shipped_pipelines
from medgan.core.config import merge
from medgan.core.volume import Volume, save_frames
from tests.kit.data_sets import TINY
from tests.kit.opening_commands import ELSEWHERE, opening, opening_command
from tests.kit.volumes import AFFINE, ball

ROOT = Path(medgan.__file__).parents[1]
PIPELINES = {n: path for n, path in shipped_pipelines().items() if path.parent.name == "pipelines"}
TIME = r"\d [a-z]|minute|hour|second|[Nn]ot measured"


def test_every_pipeline_file_opens_with_its_command_time_and_expected_result():
    for name, path in PIPELINES.items():
        lines = opening(path)
        assert 3 <= len(lines) <= 6, name
        assert max(map(len, lines)) <= 160, name
        assert opening_command(path)[0] == "medgan", name
        time, expected = lines[-2:]
        assert re.match(rf"Time: .*({TIME})", time), name
        assert re.match(r"Expected: [^{]{20,}$", expected), name


@pytest.fixture(scope="module")
def program():
    """The command line, built once."""
    return typer.main.get_command(app)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_opening_command_of_a_pipeline_file_runs_this_pipeline(name, program, monkeypatch):
    asked = []

    def remember(pipeline, *arguments):
        asked.append(find_pipeline(pipeline))
        raise typer.Exit(77)

    monkeypatch.setattr("medgan.app.pipeline.run_pipeline", remember)
    done = CliRunner().invoke(program, opening_command(PIPELINES[name])[1:])
    assert done.exit_code == 77, done.output
    assert asked == [PIPELINES[name]]


def test_pipelines_that_other_tests_run_are_run_there():
    for name, test in ELSEWHERE.items():
        assert name in PIPELINES
        assert name in (ROOT / test).read_text()


NO_BRAIN = {"data": {"brain": "none"}, "model": {"stem_stages": 1}}
WINDOW = {"data": {"window": [[-1000, 0]]}}
SETTINGS = {
    "brain_1mm": ("scans.csv", NO_BRAIN),
    "brain_2mm": ("scans.csv", NO_BRAIN),
    "brain_4mm": ("scans.csv", NO_BRAIN),
    "brain_anomalies": ("scans.csv", NO_BRAIN),
    "chest_ct": ("ct.csv", {}),
    "demo": ("", {"phantoms": {"subjects": [30, 2]}}),
    "demo_own": ("scans.csv", {"train": {"minutes": 0}, "localiser": {"minutes": 0}}),
    "harmonise": ("scans.csv", {"translate": {"target_data": "ct.csv"}}),
    "ixi_brain": ("scans.csv", {"train": {"minutes": 0}, "localiser": {"minutes": 0}}),
    "ixi_brain_2mm": ("scans.csv", NO_BRAIN),
    "large_256": ("scans.csv", {"model": {"stem_stages": 1}}),
    "lidc_lesions": ("ct.csv", {}),
    "lidc_nodule_text": ("ct.csv", WINDOW),
    "mask_to_image": ("scans.csv", {}),
    "mask_to_nodule": ("ct.csv", {}),
    "msd_hippocampus": ("scans.csv", {"localiser": {"minutes": 0}}),
    "phantom_head": ("", {"phantoms": {"subjects": [30, 0]}}),
    "phantoms": ("", {"phantoms": {"subjects": [30, 2]}}),
    "restoration": ("scans.csv", {"train": {"minutes": 0}}),
    "restoration_brain": ("scans.csv", NO_BRAIN),
    "sequence": ("beats", {}),
    "super_resolution_brain": ("scans.csv", {"train": {"minutes": 0}}),
    "super_resolution_hippocampus": ("scans.csv", {"train": {"minutes": 0}}),
    "train": ("scans.csv", {}),
    "translate_ct_pet": ("pairs.csv", {}),
    "translate_mr_ct": ("pairs.csv", {}),
}
"""Scans and settings of each pipeline that trains, beside those of all."""


def write_table(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Thirty subjects with labels, two more images, age, sex and a caption; and twelve beats."""
    folder, random = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    known = [("image", "label", "subject", "age", "sex", "caption")]
    ct, pairs = list(known), [("T1w", "ct", "pet", "subject")]
    for number in range(60):
        data, name = ball(random).astype(np.float32), f"p{number:02d}"
        files = {}
        for kind, values in (
            ("mr", data), ("ct", 8 * data - 900), ("pet", data / 20),
            ("label", (data > 60).astype(np.uint8)),
        ):  # fmt: skip
            Volume(values, AFFINE).save(folder / f"{kind}-{name}.nii.gz")
            files[kind] = f"{kind}-{name}.nii.gz"
        size = 4 + number % 9
        about = (name, 20 + number, "FM"[number % 2], f"a solid nodule of {size} mm")
        (known if number < 30 else ct).append(
            (files["mr" if number < 30 else "ct"], files["label"], *about)
        )
        if number >= 30:
            pairs.append((files["mr"], files["ct"], files["pet"], name))
    write_table(folder / "scans.csv", *known)
    write_table(folder / "ct.csv", *ct)
    write_table(folder / "pairs.csv", *pairs)
    for number in range(12):
        frames = [Volume(ball(random).astype(np.float32), AFFINE) for _ in range(4)]
        save_frames(frames, folder / "beats" / f"p{number}.nii.gz", step=0.2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_pipeline_that_trains_runs_on_tiny_scans(name, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(scans)
    source, more = SETTINGS[name]
    tiny = merge(TINY, {"data": {"source": source}, "out": str(tmp_path / "run")})
    if not source:  # phantoms have the grid of the model that they start from
        tiny = {key: value for key, value in tiny.items() if key not in ("data", "model")}
    done = run_pipeline(name, [], merge(tiny, more))
    assert not done.refusals
    without = {"register", "load_back"}  # which need MLflow: tests/app/test_pipeline.py
    assert set(read_pipeline(name)[0]) - set(done.results) <= without
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_every_pipeline_that_trains_is_run_here():
    training = {name for name in PIPELINES if {"train", "bare"} & set(read_pipeline(name)[0])}
    assert training == set(SETTINGS)
