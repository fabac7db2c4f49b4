"""DICOM as a source like any other: layouts, the table, and scores without a word of a header."""

import csv
import gzip
import json
import logging
import shutil
import stat
from dataclasses import asdict
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from medgan.app.forecasting import forecast_pipeline
from medgan.app.steps.scans import series_lines
from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.layouts.layouts import list_scans
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import Pseudonyms
from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.dicom import PLANTED, PSEUDONYMS, indexed, make_series, oblique, save
from tests.kit.models import make_model
from tests.kit.volumes import ball

"""What must reach no output; the two dates are strange enough to be found."""


def study(folder, **tags):
    """A scan, a scout and a report of one patient, and a series of another that is broken."""
    save(make_series("CT", **{**PLANTED, **tags}), folder / "a")
    save(make_series("CT", slices=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), folder / "b")
    return folder


def test_check_prints_the_table_and_ignored_series_do_not_change_the_status(tmp_path):
    done = inside("check", study(tmp_path / "in"), "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    head, scan, scout, *_ = done.stdout.splitlines()
    assert head.split()[:3] == ["series", "subject", "kind"]
    assert scan.split()[2:] == "CT 32 x 40 x 8 0.5 x 0.75 x 2.5 used".split()
    assert (
        scout.split()[2:]
        == "CT 32 x 40 x 1 0.5 x 0.75 ignored E_LOCALIZER a localizer; nothing to do".split()
    )
    manifest = Manifest.load(tmp_path / "out" / "manifest.json")
    assert [row.status for row in manifest.series] == ["used", "ignored"]
    converted = Path(manifest.cases[0].image)
    assert converted.parent == tmp_path / "out" / "dicom"
    assert stat.S_IMODE(converted.stat().st_mode) == 0o600
    assert stat.S_IMODE(converted.parent.stat().st_mode) == 0o700
    ((case, subject, file),) = [
        row
        for row in rows_of(tmp_path / "out" / "private_key.csv")
        if row[0] == manifest.cases[0].case
    ]
    assert (case, subject) == (manifest.cases[0].case, manifest.cases[0].subject)
    assert pydicom.dcmread(file).PatientID == PLANTED["PatientID"]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_refused_series_gives_status_3_and_the_table_names_code_and_remedy(tmp_path):
    source = study(tmp_path / "in")
    save(make_series("CT", seed=1), source / "c")
    (source / "c" / "i004").unlink()
    done = inside("check", source, "-o", tmp_path / "out", "--json")
    assert done.returncode == 3
    rows = json.loads(done.stdout)["index"]["series"]
    assert [row["code"] for row in rows] == ["", "E_LOCALIZER", "E_SLICE_GAP"]
    reason = ["E_SLICE_GAP", "slices missing: 1", "export it again"]
    assert rows_of(tmp_path / "out" / "refused.csv")[1:] == [[rows[2]["case"], *reason]]


def test_a_folder_without_a_usable_series_shows_the_table_too(tmp_path, caplog):
    save(make_series("CT", BurnedInAnnotation="YES"), tmp_path / "in")
    with caplog.at_level(logging.INFO):
        done = inside("check", tmp_path / "in", "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "E_NO_SCANS" in done.stderr
    assert "E_BURNED_IN" in caplog.text


def test_series_of_one_patient_share_a_subject_and_other_issuers_are_others(tmp_path):
    for name, tags in {
        "a": {"PatientID": "7", "IssuerOfPatientID": "X"},
        "b": {"PatientID": "7 ", "IssuerOfPatientID": "X"},
        "c": {"PatientID": "7", "IssuerOfPatientID": "Y"},
        "d": {"PatientID": "7"},
        "e": {"PatientID": ""},
    }.items():
        save(make_series("MR", seed=ord(name), **tags), tmp_path / "in" / name)
    found = indexed(tmp_path / "in", tmp_path)
    a, b, c, d, e = (case.subject for case in found.cases)
    assert a == b
    assert len({a, c, d, e}) == 4
    assert a == PSEUDONYMS.subject("7^X")
    assert d == PSEUDONYMS.subject("7")
    assert found.series[4].what == "no PatientID: the study is taken as the subject"


def test_pseudonyms_and_files_are_the_same_wherever_a_series_lies(tmp_path):
    series = make_series("CT")
    first = indexed(save(series, tmp_path / "in"), tmp_path)
    second = indexed(save(series[::-1], tmp_path / "there" / "deep", "x"), tmp_path / "2")
    assert first.cases[0].case == second.cases[0].case
    assert first.cases[0].sha256 == second.cases[0].sha256


def test_a_table_lists_places_of_dicom_with_subjects_and_covariates(tmp_path):
    save(make_series("MR", PatientID="A"), tmp_path / "a")
    together = save(make_series("MR", seed=1), tmp_path / "b")
    save(make_series("MR", seed=2), tmp_path / "b", "x")
    write_folder(tmp_path / "nifti", 1, labels=False)
    rows = [
        "image,subject,diagnosis",
        "a,,control",
        "b/x000,S9,patient",
        "nifti/person-00.nii.gz,,",
    ]
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    found = indexed(tmp_path / "cohort.csv", tmp_path)
    assert [case.subject for case in found.cases] == [
        PSEUDONYMS.subject(name) for name in ("A", "S9", "person-00")
    ]
    assert [case.covariates.get("diagnosis") for case in found.cases] == [
        "control",
        "patient",
        None,
    ]
    one = indexed(together / "i003", tmp_path)
    assert len(one.cases) == 1
    assert one.cases[0].sha256 not in {case.sha256 for case in found.cases}


def test_a_modality_is_chosen_like_a_suffix(tmp_path, caplog):
    save(make_series("MR"), tmp_path / "in", "m")
    save(make_series("CT", seed=1), tmp_path / "in", "c")
    inside("check", tmp_path / "in", "-o", tmp_path / "out")
    assert "choose one with --set data.suffix=CT" in caplog.text
    found = indexed(tmp_path / "in", tmp_path, "CT")
    assert sorted((row.modality, row.status, row.code) for row in found.series) == [
        ("CT", "used", ""), ("MR", "ignored", "E_MODALITY"),
    ]  # fmt: skip


def test_subjects_of_dicom_are_chosen_as_the_table_names_them(tmp_path):
    """By pseudonym, so that no number of a patient needs to be typed; by PatientID, too."""
    for seed, patient in enumerate(("A", "B", "B", "")):
        save(make_series("MR", seed=seed, PatientID=patient), tmp_path / "in" / str(seed))
    (tmp_path / "in" / "3" / "broken.dcm").write_bytes(b"MUSTERMANN")
    whole = indexed(tmp_path / "in", tmp_path)
    nobody = whole.cases[3].subject
    for names, found in (
        ([PSEUDONYMS.subject("B")], whole.cases[1:3]),
        (["B"], whole.cases[1:3]),
        ([nobody], whole.cases[3:]),  # without a PatientID
        (["A", nobody], (whole.cases[0], whole.cases[3])),
    ):
        some, key = index(tmp_path / "in", PSEUDONYMS, converted=tmp_path / "some", subjects=names)
        assert [case.case for case in some.cases] == [case.case for case in found]
        # Whose a file is that cannot be read, nobody knows.
        assert [refusal.code for refusal in some.refusals] == ["E_DICOM"]
        assert len(key) == len(found) + 1
    save(make_series("MR", PatientID="A"), tmp_path / "one")
    with pytest.raises(DataError, match=r"E_NO_SCANS.*data\.subjects") as refused:
        index(tmp_path / "one", PSEUDONYMS, converted=tmp_path / "some", subjects=["ZQ4711"])
    assert "ZQ" not in str(refused.value)


def test_the_verb_reads_the_subjects_of_dicom_and_keeps_their_names_to_itself(tmp_path):
    for seed, patient in enumerate(("ZQ1", "ZQ2")):
        save(make_series("MR", seed=seed, PatientID=patient), tmp_path / "in" / str(seed))
    for name in ("ZQ2", Pseudonyms.of_site().subject("ZQ2")):
        only = f"data.subjects=['{name}']"
        done = inside("check", tmp_path / "in", "-o", tmp_path / "out", "--set", only, "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)["index"]["series"]
        assert row["subject"] == Pseudonyms.of_site().subject("ZQ2")
        for path in (tmp_path / "out").iterdir():
            if path.is_file() and path.name != "private_key.csv":
                assert b"ZQ" not in path.read_bytes(), path.name


def test_a_folder_of_nifti_and_dicom_is_refused_as_a_whole(tmp_path):
    write_folder(tmp_path, 1, labels=False)
    save(make_series("MR"), tmp_path / "raw")
    with pytest.raises(DataError, match="E_MIXED the data folder"):
        list_scans(tmp_path)


def test_dicom_without_a_place_to_put_volumes_is_refused(tmp_path):
    save(make_series("MR"), tmp_path)
    with pytest.raises(DataError, match="E_LAYOUT"):
        index(tmp_path, PSEUDONYMS)


def test_the_manifest_of_dicom_is_a_source_and_comes_back_as_it_was(tmp_path):
    save(make_series("MR"), tmp_path / "in")
    found = indexed(tmp_path / "in", tmp_path)
    found.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json") == found
    again, _ = index(tmp_path / "manifest.json", PSEUDONYMS)
    assert again.cases == found.cases


def test_the_table_has_a_line_a_series(tmp_path):
    assert series_lines([]) == []
    save(make_series("MR"), tmp_path / "in")
    rows = [asdict(row) for row in indexed(tmp_path / "in", tmp_path).series]
    assert len(series_lines(rows)) == 2


def cohort(folder, rng, count=12):
    """Balls as oblique CT series of 16 slices, a patient each, texts planted everywhere."""
    for number in range(count):
        planted = {**PLANTED, "PatientID": f"{PLANTED['PatientID']}{number}"}
        series = make_series("CT", slices=16, step=2.0, cosines=oblique(), **planted)
        pixels = (ball(rng) + 1024).round().astype(np.uint16)
        for z, ds in enumerate(series):
            ds.Rows = ds.Columns = 16
            ds.PixelSpacing = [2, 2]
            ds.PixelData = pixels[:, :, z].tobytes()
        save(series, folder / f"{number:02d}")
    return folder


@pytest.mark.fault(27)
def test_from_a_folder_of_dicom_to_maps_on_its_grid_and_no_word_of_a_header(tmp_path, rng, caplog):
    source = cohort(tmp_path / "in", rng, 8)
    make_model().save(tmp_path / "model")
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO):
        done = inside("calibrate", tmp_path / "model", source, "-o", tmp_path / "healthy")
        assert done.returncode == 0, done.stderr
        for number in range(6):  # the rest is scored
            shutil.rmtree(source / f"{number:02d}")
        done = inside("score", tmp_path / "model", source, "-o", out)
        assert done.returncode == 0, done.stderr
    cases = Manifest.load(out / "manifest.json").split("test")
    rows = json.loads((out / "scores.json").read_text())["scans"]
    assert len(rows) == 2
    assert {row["case"] for row in rows} == {case.case for case in cases}
    for case in cases:
        series = Volume.load(case.image)
        heat = nibabel.load(out / "maps" / f"{case.case}.nii.gz")
        assert heat.shape == series.data.shape == (16, 16, 16)
        np.testing.assert_array_equal(heat.affine, series.affine)
    secret = [text.encode() for text in PLANTED.values()]
    secret += [ds.encode() for ds in uids(source)]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and source not in path.parents]
    assert len(files) > 20
    for path in files:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        assert not [text for text in secret if text in data], path.name
    assert not [text for text in secret if text.decode() in caplog.text + done.stdout]


def test_a_forecast_reads_dicom_and_leaves_nothing(tmp_path, monkeypatch, rng):
    """What is foretold for the grid takes a minute to measure and is tested elsewhere."""
    source = cohort(tmp_path / "in", rng, 6)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medgan.training.forecast.forecast", lambda config, grid: grid)
    grid = forecast_pipeline("train", [f"data.source={source}"])
    assert grid.spacing == (2, 2, 2)
    assert sorted(tmp_path.rglob("*")) == before


def uids(source):
    """SeriesInstanceUID of every series."""
    for folder in source.iterdir():
        yield str(pydicom.dcmread(folder / "i000").SeriesInstanceUID)
