"""Scores of DICOM become objects in a folder of their own, and only there."""

import hashlib
import json
import stat
import sys

import numpy as np
import pydicom
import pytest

from medgan.core.errors import ConfigError, DataError, EnvironmentFailure
from medgan.core.volume import Volume
from medgan.workflows.dicom import export_dicom
from tests.kit.command_line import inside
from tests.kit.dicom import make_series, save
from tests.kit.scored_series import scored_series, write_scores


@pytest.fixture
def scored(tmp_path):
    return scored_series(tmp_path)


def content(folder):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_comparable_scan_gives_map_regions_and_summary_and_others_the_summary(
    scored, tmp_path
):
    run, source, rows = scored
    before = content(run)
    done, refusals = export_dicom(run, source, tmp_path / "out")
    assert (done, refusals) == (2, [])
    assert content(run) == before
    first, second = (tmp_path / "out" / row["case"] for row in rows)
    assert sorted(path.name for path in first.iterdir()) == [
        "map.dcm", "regions.dcm", "summary.dcm",
    ]  # fmt: skip
    assert [path.name for path in second.iterdir()] == ["summary.dcm"]
    found = pydicom.dcmread(first / "map.dcm")
    peaks = [(frame > 7).sum() for frame in found.pixel_array]
    assert sum(peaks) == 4 * 6 * 2
    assert found.PatientID == "4711"
    summary = pydicom.dcmread(first / "summary.dcm").pixel_array
    plain = pydicom.dcmread(second / "summary.dcm").pixel_array
    colour = np.ptp(summary[100:740].astype(int), axis=-1) > 60
    assert colour.any()  # the heat
    assert not (np.ptp(plain[100:740].astype(int), axis=-1) > 60).any()


def test_only_the_owner_can_read_what_is_written(scored, tmp_path):
    run, source, _ = scored
    (tmp_path / "out").mkdir(mode=0o755)
    export_dicom(run, source, tmp_path / "out")
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_objects_of_an_earlier_scoring_do_not_stay(scored, tmp_path):
    run, source, rows = scored
    export_dicom(run, source, tmp_path / "out")
    write_scores(run, [{**row, "comparable": False} for row in rows])
    export_dicom(run, source, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").rglob("*.dcm")} == {"summary.dcm"}


def test_scores_are_no_place_for_patient_data(scored):
    run, source, _ = scored
    for out in (run, run / "pacs", run.parent):
        with pytest.raises(ConfigError, match="E_USAGE"):
            export_dicom(run, source, out)
    assert not list(run.rglob("*.dcm"))


def test_a_source_that_was_not_scored_is_refused(scored, tmp_path):
    run, _, _ = scored
    save(make_series("CT"), tmp_path / "other")
    with pytest.raises(DataError, match="E_NO_SERIES"):
        export_dicom(run, tmp_path / "other", tmp_path / "out")
    with pytest.raises(ConfigError, match="E_MISSING"):
        export_dicom(tmp_path / "other", tmp_path / "other", tmp_path / "out")


def test_a_scan_without_its_series_or_on_another_grid_is_left_out(scored, tmp_path):
    run, source, rows = scored
    path = run / rows[0]["map"]
    moved = Volume.load(path)
    affine = moved.affine.copy()
    affine[0, 3] += 0.01
    Volume(moved.data, affine).save(path)
    write_scores(run, [*rows, {**rows[0], "case": "c-0123456789"}])
    done, refusals = export_dicom(run, source, tmp_path / "out")
    assert done == 1
    assert [(r.case, r.code) for r in refusals] == [
        (rows[0]["case"], "E_NO_SERIES"),
        ("c-0123456789", "E_NO_SERIES"),
    ]
    assert "another grid" in refusals[0].what


@pytest.mark.parametrize("broken", [ValueError("x"), KeyError("map"), MemoryError()])
def test_any_fault_of_one_scan_is_that_scans_and_the_rest_is_written(
    broken, scored, tmp_path, monkeypatch
):
    from medgan.workflows import dicom

    run, source, rows = scored
    summarise = dicom.summarise

    def sometimes(row, *more):
        if row["case"] == rows[0]["case"]:
            raise broken
        return summarise(row, *more)

    monkeypatch.setattr(dicom, "summarise", sometimes)
    done, refusals = export_dicom(run, source, tmp_path / "out")
    assert done == 1
    assert [(r.case, r.code) for r in refusals] == [(rows[0]["case"], "E_EXPORT")]
    assert type(broken).__name__ in refusals[0].what


def test_without_highdicom_one_error_says_what_to_install(scored, tmp_path, monkeypatch):
    run, source, _ = scored
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(EnvironmentFailure, match=r"E_EXTRA.*pip install 'medgan\[dicom\]'"):
        export_dicom(run, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_verb_says_what_it_wrote_and_never_whose(scored, tmp_path):
    run, source, _ = scored
    done = inside("export-dicom", run, "--source", source, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "names of patients" in done.stdout
    assert "MUSTERMANN" not in done.stdout + done.stderr
    done = inside("export-dicom", run, "--source", source, "-o", run / "pacs", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "E_USAGE"


def test_a_scan_names_the_model_that_scored_it_where_others_came_later(scored, tmp_path):
    run, source, rows = scored
    export_dicom(run, source, tmp_path / "one")
    summary = json.loads((run / "scores.json").read_text())
    earlier = {"old": {name: summary[name] for name in ("model", "calibration")}}
    later = {
        "model": {"medgan": "2"},
        "models": earlier,
        "scans": [rows[0] | {"calibration": "old"}],
    }
    (run / "scores.json").write_text(json.dumps(summary | later))
    export_dicom(run, source, tmp_path / "two")
    before, after = (
        pydicom.dcmread(tmp_path / name / rows[0]["case"] / "map.dcm").DeviceSerialNumber
        for name in ("one", "two")
    )
    assert before == after
