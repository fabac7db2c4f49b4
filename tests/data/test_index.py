import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

import medgan.data.index
from medgan.app.steps.scans import read_manifest
from medgan.core.config import DataConfig
from medgan.core.errors import ConfigError, DataError, Interrupted
from medgan.data.checks import CheckedScan
from medgan.data.index import index
from medgan.data.layouts.descriptions import LICENCE_LENGTH, licence_of
from medgan.data.layouts.layouts import list_scans
from medgan.data.manifest import Manifest
from medgan.data.plan import plan
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.reading import read_case
from medgan.data.splits import with_drawn_splits
from tests.kit.data_sets import write_folder

PSEUDONYMS = Pseudonyms(b"s" * 32)


def scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(0, 999, (4, 5, 6)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 2, 3, 1])), path)
    return path


def label(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.zeros((4, 5, 6), np.uint8)
    data[1] = value
    nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 2, 3, 1])), path)
    return path


def indexed(source: Path, suffix: str = "") -> Manifest:
    return index(source, PSEUDONYMS, suffix)[0]


def table(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    separator = "\t" if path.suffix == ".tsv" else ","
    path.write_text("\n".join(row.replace(",", separator) for row in rows) + "\n")
    return path


def dataset_json(folder: Path, training: list, test: list | None = None) -> Path:
    path = folder / "dataset.json"
    path.write_text(json.dumps({"training": training, "test": test or []}))
    return path


def bids(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    return folder


# Layouts


@pytest.mark.parametrize(
    ("image", "label_file"),
    [
        ("a.nii.gz", "a_label.nii.gz"),
        ("a.nii.gz", "a_seg.nii"),
        ("a.nii", "a_dseg.nii.gz"),
        ("a.nii.gz", "a-mask.nii.gz"),
        ("images/a.nii.gz", "labels/a.nii.gz"),
        ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz"),
        ("site/imagesTr/a.nii.gz", "site/labelsTr/a.nii.gz"),
    ],
)
def test_a_folder_pairs_images_with_labels(tmp_path: Path, image: str, label_file: str) -> None:
    scan(tmp_path / image)
    label(tmp_path / label_file, 3)
    (case,) = indexed(tmp_path).cases
    assert case.image == str(tmp_path / image)
    assert case.label == str(tmp_path / label_file)
    assert case.labels == (3,)
    assert case.shape == (4, 5, 6)
    assert case.spacing == (2, 2, 3)


def test_a_folder_lists_scans_without_labels_and_ignores_what_is_no_scan(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz")
    scan(tmp_path / ".b.nii.gz", 1)
    scan(tmp_path / ".cache" / "c.nii.gz", 2)
    (tmp_path / "readme.txt").write_text("x")
    (case,) = indexed(tmp_path).cases
    assert case.label is None
    assert case.labels == ()


def test_the_folder_itself_may_be_called_labels(tmp_path: Path) -> None:
    for name in ("labels", "labelled_2020"):
        scan(tmp_path / name / "a.nii.gz")
        assert len(indexed(tmp_path / name).cases) == 1


def test_one_folder_a_patient_makes_one_subject_a_folder(tmp_path: Path) -> None:
    for seed, name in enumerate(["p1/v1/t1", "p1/v2/t1", "p2/v1/t1", "sub-7/t1"]):
        scan(tmp_path / f"{name}.nii.gz", seed)
    listing = list_scans(tmp_path)
    assert [listed.subject for listed in listing] == ["p1", "p1", "p2", "sub-7"]
    assert len({listed.name for listed in listing}) == 4


def test_sub_entities_are_the_subject(tmp_path: Path) -> None:
    scan(tmp_path / "sub-01_ses-1_T1w.nii.gz", 1)
    scan(tmp_path / "sub-01_ses-2_T1w.nii.gz", 2)
    assert len({case.subject for case in indexed(tmp_path).cases}) == 1


def test_a_single_file_is_a_data_set(tmp_path: Path) -> None:
    (case,) = indexed(scan(tmp_path / "a.nii.gz")).cases
    assert case.case == PSEUDONYMS.case("a")


def test_decathlon_lists_training_and_test(tmp_path: Path) -> None:
    scan(tmp_path / "imagesTr" / "h_1.nii.gz", 1)
    label(tmp_path / "labelsTr" / "h_1.nii.gz", 2)
    scan(tmp_path / "imagesTs" / "h_2.nii.gz", 2)
    scan(tmp_path / "imagesTr" / "not_listed.nii.gz", 3)
    entry = {"image": "./imagesTr/h_1.nii.gz", "label": "./labelsTr/h_1.nii.gz"}
    path = dataset_json(tmp_path, [entry], ["./imagesTs/h_2.nii.gz"])
    assert indexed(path) == indexed(tmp_path)
    first, second = indexed(tmp_path).cases
    assert (first.labels, second.label) == ((2,), None)


@pytest.mark.parametrize(
    ("name", "key"), [("dataset.json", "licence"), ("dataset_description.json", "License")]
)
def test_the_licence_that_a_data_set_names_is_kept(tmp_path: Path, name: str, key: str) -> None:
    for values, licence in (({key: "CC BY-SA\n4.0"}, "CC BY-SA 4.0"), ({}, ""), ([], "")):
        (tmp_path / name).write_text(json.dumps(values))
        assert licence_of(tmp_path) == licence
        assert licence_of(tmp_path / name) == licence
    (tmp_path / name).write_text(json.dumps({key: 100 * "word "}))
    assert len(licence_of(tmp_path)) == LICENCE_LENGTH


def test_the_licence_travels_with_the_manifest(tmp_path: Path) -> None:
    scan(tmp_path / "imagesTr" / "h_1.nii.gz", 1)
    path = dataset_json(tmp_path, [{"image": "./imagesTr/h_1.nii.gz"}])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"licence": "CC0"}))
    manifest = indexed(tmp_path)
    manifest.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json").licence == manifest.licence == "CC0"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{broken", '{"training": [{"label": "a"}]}', '{"training": [1]}', '{"training": 3}'],
)
def test_a_broken_dataset_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match="E_DATASET"):
        list_scans(tmp_path)


def test_bids_reads_sessions_derivatives_and_participants(tmp_path: Path) -> None:
    tree = bids(tmp_path / "tree")
    for number in (1, 2):
        name = f"sub-01_ses-{number}"
        scan(tree / "sub-01" / f"ses-{number}" / "anat" / f"{name}_T1w.nii.gz", number)
    scan(tree / "sub-02" / "anat" / "sub-02_T1w.nii.gz", 3)
    scan(tree / "sub-02" / "func" / "sub-02_bold.nii.gz", 4)
    segmented = label(tree / "derivatives" / "fs" / "sub-02" / "anat" / "sub-02_dseg.nii.gz", 7)
    scan(tree / "derivatives" / "fs" / "sub-02" / "anat" / "sub-02_T1w.nii.gz", 5)
    table(
        tree / "participants.tsv", "participant_id,age,diagnosis", "sub-01,44,control", "sub-02,,AD"
    )
    cases = indexed(tree).cases
    assert len(cases) == 3
    assert len({case.subject for case in cases}) == 2
    assert [case.covariates["diagnosis"] for case in cases] == ["control", "control", "AD"]
    assert cases[0].covariates["age"] == "44"
    assert cases[2].label == str(segmented)
    assert cases[2].labels == (7,)


def test_bids_is_read_by_subject_and_session_with_what_is_known_of_each(tmp_path: Path) -> None:
    tree = bids(tmp_path / "tree")
    for number, name in enumerate(("01_ses-a", "01_ses-b", "02_ses-a", "10_ses-a")):
        subject, session = f"sub-{name}".split("_")
        scan(tree / subject / session / "anat" / f"sub-{name}_T1w.nii.gz", number)
    table(tree / "participants.tsv", "participant_id,age,sex", "sub-01,44,F", "sub-02,50,M")
    table(tree / "sub-01" / "sub-01_sessions.tsv", "session_id,age", "ses-a,44", "ses-b,47")

    def read(**wanted: object) -> list[tuple[str, str]]:
        cases = index(tree, PSEUDONYMS, **wanted)[0].cases
        return [(Path(case.image).name[:-7], case.covariates.get("age", "")) for case in cases]

    assert read(subjects=["01"]) == [("sub-01_ses-a_T1w", "44"), ("sub-01_ses-b_T1w", "47")]
    assert read(subjects=["sub-01", "02"], session="b") == [("sub-01_ses-b_T1w", "47")]
    assert [name[:6] for name, _ in read(session="ses-a")] == ["sub-01", "sub-02", "sub-10"]
    chosen, _ = index(tree, PSEUDONYMS, subjects=["01"], session="b")
    assert chosen.cases[0].covariates["sex"] == "F"
    assert len(read(subjects=[PSEUDONYMS.subject("sub-01")])) == 2
    for nobody in ({"subjects": ["1"]}, {"session": "c"}):
        with pytest.raises(DataError, match=r"E_NO_SCANS.*data\.session"):
            read(**nobody)


def test_bids_with_several_suffixes_wants_a_choice(tmp_path: Path) -> None:
    tree = bids(tmp_path)
    for seed, suffix in enumerate(("T1w", "T2w")):
        scan(tree / "sub-01" / "anat" / f"sub-01_{suffix}.nii.gz", seed)
    with pytest.raises(DataError, match=r"E_SUFFIX.*T1w, T2w.*data\.suffix=T1w"):
        indexed(tree)
    (case,) = indexed(tree, "T2w").cases
    assert case.image.endswith("sub-01_T2w.nii.gz")
    with pytest.raises(DataError, match="E_NO_SCANS"):
        indexed(tree, "FLAIR")


def test_bids_tells_contrasts_apart_and_takes_runs_together(tmp_path: Path, caplog) -> None:
    tree = bids(tmp_path)
    names = (
        *("sub-01_run-1_T1w", "sub-01_run-2_T1w", "sub-01_part-phase_T1w"),
        *("sub-02_echo-1_T1w", "sub-02_acq-fast_echo-2_T1w", "sub-03_ses-1_T1w"),
    )
    for seed, name in enumerate(names):
        scan(tree / name[:6] / "anat" / f"{name}.nii.gz", seed)

    def read(suffix: str) -> list[str]:
        return [Path(case.image).name[:-7] for case in indexed(tree, suffix).cases]

    for suffix in ("", "T1w"):
        with pytest.raises(DataError, match=r"E_SUFFIX.*T1w, echo-1_T1w, echo-2_T1w, part-phase"):
            read(suffix)
    assert read("echo-1_T1w") == ["sub-02_echo-1_T1w"]
    assert read("echo-2_acq-fast_T1w") == ["sub-02_acq-fast_echo-2_T1w"]
    for name in ("part-phase", "echo-1"):
        (found,) = tree.rglob(f"*{name}_T1w.nii.gz")
        found.unlink()
    (found,) = tree.rglob("*echo-2_T1w.nii.gz")
    found.rename(found.with_name("sub-02_acq-fast_T1w.nii.gz"))
    assert len(read("T1w")) == 4
    assert "data.suffix=acq-LABEL_T1w" in caplog.text
    assert len({case.subject for case in indexed(tree).cases}) == 3


def test_bids_leaves_source_data_out_and_refuses_subjects_that_lie_elsewhere(
    tmp_path: Path,
) -> None:
    tree = bids(tmp_path / "tree")
    scan(tree / "sub-01" / "anat" / "sub-01_T1w.nii.gz", 1)
    scan(tree / "sourcedata" / "sub-01" / "anat" / "sub-01_T2w.nii.gz", 2)
    scan(tree / "code" / "sub-09" / "anat" / "sub-09_T2w.nii.gz", 3)
    scan(tmp_path / "elsewhere" / "anat" / "sub-02_T1w.nii.gz", 4)
    (tree / "sub-02").symlink_to(tmp_path / "elsewhere")
    (tree / "sub-03").symlink_to(tree / "sub-03")
    manifest = indexed(tree)
    assert [Path(case.image).name for case in manifest.cases] == ["sub-01_T1w.nii.gz"]
    assert [refusal.code for refusal in manifest.refusals] == ["E_OUTSIDE"]


def test_a_folder_that_leads_elsewhere_is_refused_in_any_layout(tmp_path: Path) -> None:
    scan(tmp_path / "tree" / "a.nii.gz", 1)
    scan(tmp_path / "elsewhere" / "b.nii.gz", 2)
    (tmp_path / "tree" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree" / "here").symlink_to(tmp_path / "tree")
    manifest = indexed(tmp_path / "tree")
    assert len(manifest.cases) == 1
    assert [refusal.code for refusal in manifest.refusals] == ["E_OUTSIDE"]


def test_tables_of_bids_are_read_as_spreadsheets_leave_them(tmp_path: Path) -> None:
    tree = tmp_path / "tree"  # without a dataset_description.json
    for number in (1, 2):
        for session in "ab":
            name = f"sub-0{number}_ses-{session}"
            place = tree / f"sub-0{number}" / f"ses-{session}" / "anat"
            scan(place / f"{name}_T1w.nii.gz", 2 * number + ord(session))
    rows = ["participant_id,age,sex", "01,44,F", "sub-02,n/a,M", "sub-77,9,F"]
    text = "\r\n".join(row.replace(",", "\t") for row in rows)
    (tree / "participants.tsv").write_bytes(f"\ufeff{text}\r\n".encode())
    table(tree / "sub-01" / "sub-01_sessions.tsv", "session_id,age", "ses-a,n/a", "b,47")
    cases = indexed(tree).cases
    assert [case.covariates["age"] for case in cases] == ["44", "47", "n/a", "n/a"]
    assert [case.covariates["sex"] for case in cases] == ["F", "F", "M", "M"]


def test_a_list_of_participants_beside_loose_scans_makes_no_bids_tree(tmp_path: Path) -> None:
    scan(tmp_path / "scans" / "a.nii.gz")
    table(tmp_path / "scans" / "participants.tsv", "participant_id,age", "a,44")
    assert len(indexed(tmp_path / "scans").cases) == 1


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (("id,age", "sub-01,1"), "without participant_id"),
        (("participant_id,age", "sub-01,1", "01,2"), "in two rows"),
    ],
)
def test_a_table_of_bids_that_nobody_can_be_found_in_is_refused(
    rows: tuple[str, ...], what: str, tmp_path: Path
) -> None:
    tree = bids(tmp_path)
    scan(tree / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    table(tree / "participants.tsv", *rows)
    with pytest.raises(DataError, match=f"E_DATASET.*{what}") as refused:
        indexed(tree)
    assert "sub-01" not in str(refused.value)


def test_label_maps_of_two_pipelines_under_one_name_are_refused(tmp_path: Path) -> None:
    tree = bids(tmp_path)
    scan(tree / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    for name in ("a", "b"):
        label(tree / "derivatives" / name / "sub-01" / "anat" / "sub-01_dseg.nii.gz")
    with pytest.raises(DataError, match="E_DATASET derivatives"):
        indexed(tree)


def test_subjects_are_chosen_by_name_or_pseudonym_of_a_manifest_too(tmp_path: Path) -> None:
    for seed in range(3):
        scan(tmp_path / "in" / f"sub-0{seed}_T1w.nii.gz", seed)
    manifest = indexed(tmp_path / "in")
    manifest.save(tmp_path / "manifest.json")
    for source in (tmp_path / "in", tmp_path / "manifest.json"):
        for names in (["01"], ["sub-01"], [manifest.cases[1].subject]):
            (case,) = index(source, PSEUDONYMS, subjects=names)[0].cases
            assert case.case == manifest.cases[1].case
        with pytest.raises(DataError, match=r"E_NO_SCANS.*data\.subjects"):
            index(source, PSEUDONYMS, subjects=["9"])


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_table_gives_names_labels_and_covariates(tmp_path: Path, ending: str) -> None:
    scan(tmp_path / "x" / "a.nii.gz", 1)
    scan(tmp_path / "x" / "b.nii.gz", 2)
    label(tmp_path / "x" / "m.nii.gz", 4)
    path = table(
        tmp_path / f"list.{ending}",
        "case,subject,image,label,age",
        "first,p,x/a.nii.gz,x/m.nii.gz, 50 ",
        "second,p,x/b.nii.gz,,",
    )
    first, second = indexed(path).cases
    assert first.case == PSEUDONYMS.case("first")
    assert first.subject == second.subject == PSEUDONYMS.subject("p")
    assert (first.labels, second.labels) == ((4,), ())
    assert (first.covariates, second.covariates) == ({"age": "50"}, {})


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz")
    path = tmp_path / "list.csv"
    path.write_bytes("\ufeffimage,age\r\na.nii.gz,5,\r\n,,\r\n".encode())
    assert indexed(path).cases[0].covariates == {"age": "5"}


def test_a_table_without_an_image_or_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"E_DATASET.*row 2"):
        list_scans(table(tmp_path / "list.csv", "image,age", "a.nii.gz,1", ",2"))
    (tmp_path / "list.csv").write_bytes("image,näme\na.nii,x\n".encode("latin-1"))
    with pytest.raises(DataError, match="E_DATASET"):
        list_scans(tmp_path / "list.csv")


def test_a_known_lesion_is_found_beside_the_table(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz")
    path = table(tmp_path / "list.csv", "image,lesion_mask,age", "a.nii.gz,lesions/a.nii.gz,3")
    wanted = {"lesion_mask": str(tmp_path / "lesions" / "a.nii.gz"), "age": "3"}
    assert indexed(path).cases[0].covariates == wanted


def test_a_scan_has_one_pseudonym_in_every_layout(tmp_path: Path) -> None:
    name = "sub-01_T1w.nii.gz"
    scan(tmp_path / "folder" / "images" / name)
    scan(tmp_path / "dec" / "imagesTr" / name)
    dataset_json(tmp_path / "dec", [{"image": f"imagesTr/{name}"}])
    scan(bids(tmp_path / "bids") / "sub-01" / "anat" / name)
    path = table(tmp_path / "list.csv", "image", f"folder/images/{name}")
    sources = ["folder", "dec", "bids", "list.csv", f"folder/images/{name}"]
    cases = [indexed(tmp_path / source).cases[0] for source in sources]
    assert path.exists()
    assert {case.case for case in cases} == {PSEUDONYMS.case("sub-01_T1w")}
    assert {case.subject for case in cases} == {PSEUDONYMS.subject("sub-01")}


@pytest.mark.fault(19)
@pytest.mark.parametrize("make", [Path.mkdir, bids, lambda p: table(p / "list.csv", "image,age")])
def test_a_data_set_without_scans_is_refused(tmp_path: Path, make) -> None:
    made = make(tmp_path / "empty") or tmp_path / "empty"
    with pytest.raises(DataError, match="E_NO_SCANS"):
        indexed(made)


def test_what_is_missing_or_of_no_known_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="E_NO_SCANS"):
        indexed(tmp_path / "missing")
    (tmp_path / "a.dcm").touch()
    with pytest.raises(DataError, match="E_LAYOUT"):
        indexed(tmp_path / "a.dcm")


# Refusals


@pytest.mark.parametrize("ending", [".Nii", ".NII", ".nii.GZ", ".Nii.Gz", ".NII.GZ"])
def test_capitals_of_an_ending_do_not_matter(tmp_path: Path, ending: str) -> None:
    plain = ".nii.gz" if ending.lower().endswith("gz") else ".nii"
    scan(tmp_path / f"a{plain}").rename(tmp_path / f"a{ending}")
    label(tmp_path / f"a_seg{plain}").rename(tmp_path / f"a_SEG{ending}")
    (case,) = indexed(tmp_path).cases
    assert case.case == PSEUDONYMS.case("a")
    assert case.labels == (1,)
    assert plan(DataConfig(), [case]).spacing == (2, 2, 2)


def test_an_unexpected_fault_in_one_scan_is_refused_and_the_rest_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate(["a", "b", "c"]):
        scan(tmp_path / f"{name}.nii.gz", seed)
    read = medgan.data.index.check_scan

    def fail(images: dict[str, Path], label: Path | None, case: str) -> CheckedScan:
        if any(path.name == "b.nii.gz" for path in images.values()):
            raise OverflowError(f"secret {images}")
        return read(images, label, case)

    monkeypatch.setattr(medgan.data.index, "check_scan", fail)
    manifest = indexed(tmp_path)
    assert len(manifest.cases) == 2
    (refusal,) = manifest.refusals
    assert (refusal.case, refusal.code) == (PSEUDONYMS.case("b"), "E_SCAN")
    assert refusal.what == "unexpected OverflowError"

    def stop(images: dict[str, Path], label: Path | None, case: str) -> CheckedScan:
        raise Interrupted("E_STOPPED", "medgan", "asked to stop", "run it again")

    monkeypatch.setattr(medgan.data.index, "check_scan", stop)
    with pytest.raises(Interrupted):
        indexed(tmp_path)


@pytest.mark.fault(1)
def test_one_bad_file_is_refused_and_the_rest_kept(tmp_path: Path) -> None:
    for seed, name in enumerate(["a", "b", "c"]):
        scan(tmp_path / f"{name}.nii.gz", seed)
    bad = tmp_path / "b.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-20])
    told = []
    manifest, key = index(
        tmp_path, PSEUDONYMS, progress=lambda done, total: told.append((done, total))
    )
    assert [case.case for case in manifest.cases] == [PSEUDONYMS.case(n) for n in "ac"]
    assert [Path(file).name for _, _, file in key] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    (refusal,) = manifest.refusals
    assert (refusal.case, refusal.code) == (PSEUDONYMS.case("b"), "E_TRUNCATED")
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_bad_label_refuses_its_case(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz")
    (tmp_path / "a_seg.nii.gz").touch()
    manifest = indexed(tmp_path)
    assert not manifest.cases
    assert [r.code for r in manifest.refusals] == ["E_EMPTY"]


def test_the_same_content_or_name_twice_is_refused_once(tmp_path: Path) -> None:
    shutil.copy(scan(tmp_path / "a.nii.gz"), tmp_path / "b.nii.gz")
    manifest = indexed(tmp_path)
    assert len(manifest.cases) == 1
    assert [r.code for r in manifest.refusals] == ["E_DUPLICATE"]
    scan(tmp_path / "b.nii.gz", 1)
    path = table(tmp_path / "list.csv", "case,image", "x,a.nii.gz", "x,b.nii.gz")
    manifest = indexed(path)
    assert len(manifest.cases) == 1
    assert [r.code for r in manifest.refusals] == ["E_DUPLICATE"]


def test_a_missing_file_of_a_table_is_refused(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz")
    path = table(tmp_path / "list.csv", "image", "a.nii.gz", "gone.nii.gz")
    manifest = indexed(path)
    assert len(manifest.cases) == 1
    assert [r.code for r in manifest.refusals] == ["E_UNREADABLE"]


@pytest.mark.fault(20)
@pytest.mark.parametrize("layout", ["folder", "bids"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_out_of_a_scanned_folder_is_refused(
    tmp_path: Path, layout: str, exists: bool
) -> None:
    outside = tmp_path / "outside.nii.gz"
    if exists:
        scan(outside)
    tree = bids(tmp_path / "tree") if layout == "bids" else tmp_path / "tree"
    scan(tree / "sub-01" / "anat" / "sub-01_T1w.nii.gz", 1)
    link = tree / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    manifest = indexed(tree)
    assert len(manifest.cases) == 1
    assert [r.code for r in manifest.refusals] == ["E_OUTSIDE"]


@pytest.mark.fault(20)
def test_a_label_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    scan(tmp_path / "tree" / "a.nii.gz")
    (tmp_path / "tree" / "a_seg.nii.gz").symlink_to(label(tmp_path / "outside.nii.gz"))
    assert [r.code for r in indexed(tmp_path / "tree").refusals] == ["E_OUTSIDE"]


@pytest.mark.fault(20)
def test_links_of_a_circle_or_to_nothing_are_refused(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    manifest = indexed(tmp_path)
    assert len(manifest.cases) == 1
    assert [r.code for r in manifest.refusals] == ["E_UNREADABLE"] * 2


@pytest.mark.fault(20)
def test_a_table_may_name_links_that_lead_anywhere(tmp_path: Path) -> None:
    scan(tmp_path / "outside.nii.gz")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.nii.gz").symlink_to(tmp_path / "outside.nii.gz")
    assert len(indexed(table(tmp_path / "tree" / "list.csv", "image", "a.nii.gz")).cases) == 1


def annexed(tree: Path, name: str, seed: int) -> None:
    """A scan as git-annex keeps it: a link to content under `.git`."""
    key = f"MD5E-s100--{seed:032x}.nii.gz"
    kept = scan(tree / ".git" / "annex" / "objects" / "1f" / "2e" / key / key, seed)
    link = tree / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("../" * name.count("/") + kept.relative_to(tree).as_posix())
    assert link.exists()


@pytest.mark.parametrize("layout", ["folder", "bids"])
def test_a_datalad_tree_is_read_once_and_whole_or_in_part(tmp_path: Path, layout: str) -> None:
    tree = bids(tmp_path / "tree") if layout == "bids" else tmp_path / "tree"
    for number in (1, 2):
        annexed(tree, f"sub-0{number}/anat/sub-0{number}_T1w.nii.gz", number)
    manifest = indexed(tree)
    assert not manifest.refusals
    names = [PSEUDONYMS.case(f"sub-0{number}_T1w") for number in (1, 2)]
    assert [case.case for case in manifest.cases] == names
    assert [case.case for case in indexed(tree / "sub-02").cases] == names[1:]


# Manifests


def test_a_manifest_is_read_back_as_written_by_its_owner_alone(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz", 1)
    label(tmp_path / "a_seg.nii.gz")
    (tmp_path / "b.nii.gz").touch()
    manifest = indexed(tmp_path)
    assert len(manifest.refusals) == 1
    path = tmp_path / "out" / "manifest.json"
    manifest.save(path)
    assert Manifest.load(path) == manifest
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"cases": [{}], "refusals": []}', '{"cases": 1}']
)
def test_a_broken_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    for name in ("manifest.json", "missing.json"):
        with pytest.raises(DataError, match="E_MANIFEST"):
            Manifest.load(tmp_path / name)


def test_names_stand_in_paths_alone(tmp_path: Path) -> None:
    tree = bids(tmp_path / "tree")
    scan(tree / "sub-DOEJANE" / "anat" / "sub-DOEJANE_T1w.nii.gz", 1)
    label(tree / "derivatives" / "sub-DOEJANE" / "anat" / "sub-DOEJANE_dseg.nii.gz")
    broken = scan(tree / "sub-DOEJOHN" / "anat" / "sub-DOEJOHN_T1w.nii.gz", 2)
    broken.write_bytes(b"DOEJOHN" * 200)
    table(tree / "participants.tsv", "participant_id,age", "sub-DOEJANE,44")
    indexed(tree).save(tmp_path / "manifest.json")
    values = json.loads((tmp_path / "manifest.json").read_text())
    for case in values["cases"]:
        assert "DOE" in case.pop("images")["image"]
        assert "DOE" in case.pop("label")
    assert len(values["cases"]) == len(values["refusals"]) == 1
    assert "DOE" not in json.dumps(values)


# Manifests as a source


def test_a_manifest_is_a_source_that_keeps_names_covariates_and_splits(tmp_path):
    folder = write_folder(tmp_path / "scans", 12)
    manifest, _ = index(folder, Pseudonyms(b"s"))
    manifest = with_drawn_splits(manifest, (0.4, 0.1, 0.25, 0.25), 0)
    manifest.save(tmp_path / "manifest.json")
    again, key = index(tmp_path / "manifest.json", Pseudonyms(b"another site's"))
    assert again == manifest
    assert [row[0] for row in key] == [case.case for case in manifest.cases]


@pytest.mark.fault(3)
def test_a_file_that_has_changed_since_the_manifest_is_refused(tmp_path):
    folder = write_folder(tmp_path / "scans", 4)
    manifest, _ = index(folder, Pseudonyms(b"s"))
    manifest.save(tmp_path / "manifest.json")
    one, two, three = (Path(case.image) for case in manifest.cases[:3])
    one.unlink()
    two.write_bytes(three.read_bytes())
    label = Path(manifest.cases[3].label)
    label.write_bytes(Path(manifest.cases[2].label).read_bytes())
    again, _ = index(tmp_path / "manifest.json", Pseudonyms(b"s"))
    assert [case.image for case in again.cases] == [str(three)]
    assert [refusal.code for refusal in again.refusals] == [
        "E_UNREADABLE", "E_MANIFEST", "E_MANIFEST"
    ]  # fmt: skip
    assert "person" not in str(again.refusals)


@pytest.mark.fault(3)
def test_no_flipped_byte_of_a_voxel_is_read_as_the_scan_of_the_manifest(tmp_path, measured):
    path, random = scan(tmp_path / "scans" / "a.nii"), np.random.default_rng(0)
    scan(tmp_path / "scans" / "b.nii", 1)
    manifest, _ = index(tmp_path / "scans", PSEUDONYMS)
    manifest.save(tmp_path / "manifest.json")
    case = next(case for case in manifest.cases if case.image == str(path))
    read_case(case)
    whole, refused, first = path.read_bytes(), 0, len(path.read_bytes()) - 2 * 4 * 5 * 6
    for number in range(FLIPS := 1000):
        damaged = bytearray(whole)
        damaged[random.integers(first, len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="E_MANIFEST"):
            read_case(case)
        refused += 1
        if number % 200 == 0:  # as the next command sees it
            again, _ = index(tmp_path / "manifest.json", PSEUDONYMS)
            assert [refusal.code for refusal in again.refusals] == ["E_MANIFEST"]
    path.write_bytes(whole)
    read_case(case)
    measured(f"{refused} of {FLIPS} files with one flipped bit of a voxel refused")


def test_a_damaged_manifest_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="E_MANIFEST"):
        index(tmp_path / "manifest.json", Pseudonyms(b"s"))


def test_a_decathlon_listing_may_validate_and_say_whose_scans_are_whose(tmp_path):
    write_folder(tmp_path / "a", 3)
    entries = [
        {"image": f"a/person-0{n}.nii.gz", "subject": "one", "case": f"case-{n}"} for n in range(3)
    ]
    listing = {"training": entries[:1], "validation": entries[1:2], "unlabelled": entries[2:]}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    found = list_scans(tmp_path)
    assert [(one.name, one.subject) for one in found] == [(f"case-{n}", "one") for n in range(3)]


@pytest.mark.fault(20)
@pytest.mark.parametrize("layout", ["training", "dataset"])
def test_no_relative_name_in_dataset_json_leads_out_of_its_folder(tmp_path, layout, measured):
    folder, other = tmp_path / "set", tmp_path / "other"
    outside, inner = scan(other / "x.nii.gz", 1), scan(folder / "imagesTr" / "good.nii.gz", 2)
    (folder / "linked.nii.gz").symlink_to(outside)
    names = ["../other/x.nii.gz", "imagesTr/../../other/x.nii.gz", "linked.nii.gz"]
    good = "imagesTr/good.nii.gz"
    pairs = [(name, None) for name in [*names, good]]
    pairs += [(good, name) for name in names]
    if layout == "training":
        entries = [
            {"image": image, "case": f"n{n}", **({"label": label} if label else {})}
            for n, (image, label) in enumerate(pairs)
        ]
        dataset_json(folder, entries)
    else:
        entries = {
            f"n{n}": {"images": [image], **({"label": label} if label else {})}
            for n, (image, label) in enumerate(pairs)
        }
        values = {"channel_names": {"0": "T1w"}, "file_ending": ".nii.gz", "dataset": entries}
        (folder / "dataset.json").write_text(json.dumps(values))
    found = indexed(folder)
    assert [case.image for case in found.cases] == [str(inner)]
    assert {refusal.code for refusal in found.refusals} == {"E_OUTSIDE"}
    assert "other" not in str(found.refusals)
    measured(f"{len(found.refusals)} names in `{layout}` that lead out: all E_OUTSIDE")


@pytest.mark.fault(18)
@pytest.mark.fault("duplicates by content")
def test_a_manifest_with_one_scan_in_two_splits_is_a_leak(tmp_path, measured):
    files = [scan(tmp_path / "in" / f"{name}.nii.gz", n) for n, name in enumerate("abcd")]
    made = indexed(tmp_path / "in")
    shutil.copy(files[0], tmp_path / "in" / "copy.nii.gz")
    cases = [replace(case, split="train") for case in made.cases[:2]]
    cases += [replace(case, split="test", subject="s-x") for case in made.cases[2:]]
    again = replace(cases[0], case="c-copy", subject="s-x", split="test")
    path = tmp_path / "manifest.json"
    Manifest((*cases, again)).save(path)
    settings = DataConfig(source=str(path))
    with pytest.raises(ConfigError, match="E_LEAK"):
        read_manifest(settings, None)
    Manifest(tuple(cases)).save(path)
    assert len(read_manifest(settings, None)[0].cases) == 4
    measured("a scan of train listed again in test: E_LEAK")
