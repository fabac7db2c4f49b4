"""nnU-Net's raw data sets: channels are one case, labels are kept, nothing is lost silently."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.layouts.layouts import list_scans
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"salt")
VERSION_2 = {
    "channel_names": {"0": "FLAIR", "1": "T1w"}, "labels": {"background": 0, "tumour": 1},
    "numTraining": 2, "file_ending": ".nii.gz",
}  # fmt: skip


def scan(path: Path, seed: int) -> Path:
    values = np.random.default_rng(seed).normal(100, 20, (8, 9, 10)).astype(np.float32)
    Volume(values, np.eye(4)).save(path)
    return path


def label(path: Path, value: int = 1) -> Path:
    values = np.zeros((8, 9, 10), np.uint8)
    values[2:4] = value
    Volume(values, np.eye(4)).save(path)
    return path


def raw(folder: Path, channels: int = 2, **description) -> Path:
    for number, name in enumerate(("BRATS_001", "BRATS_002")):
        for channel in range(channels):
            scan(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", 10 * number + channel)
        label(folder / "labelsTr" / f"{name}.nii.gz", number + 1)
    if description:
        (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def read(source: Path, *channels: str) -> Manifest:
    return index(source, PSEUDONYMS, channels=channels)[0]


def test_version_2_is_read_with_channels_and_labels(tmp_path):
    folder = raw(tmp_path, **VERSION_2)
    scan(folder / "imagesTs" / "BRATS_003_0000.nii.gz", 50)
    scan(folder / "imagesTs" / "BRATS_003_0001.nii.gz", 51)
    manifest = read(folder)
    assert not manifest.refusals
    assert [list(case.images) for case in manifest.cases] == [["FLAIR", "T1w"]] * 3
    assert [case.labels for case in manifest.cases] == [(1,), (2,), ()]
    assert manifest.cases[0].subject == PSEUDONYMS.subject("BRATS_001")
    assert read(folder / "dataset.json") == manifest
    assert read(folder / "imagesTs").cases[0] == manifest.cases[2]


def test_channels_are_chosen_by_name_and_order(tmp_path):
    folder = raw(tmp_path, **VERSION_2)
    assert [list(case.images) for case in read(folder, "T1w", "FLAIR").cases] == [
        ["T1w", "FLAIR"],
        ["T1w", "FLAIR"],
    ]
    one = read(folder, "T1w")
    assert [Path(case.image).name for case in one.cases] == [
        "BRATS_001_0001.nii.gz",
        "BRATS_002_0001.nii.gz",
    ]
    with pytest.raises(DataError, match=r"E_CHANNEL.*no scan has T2.*choose among FLAIR, T1w"):
        read(folder, "T2")


def test_one_channel_without_dataset_json_keeps_its_labels(tmp_path):
    manifest = read(raw(tmp_path, channels=1))
    assert [case.labels for case in manifest.cases] == [(1,), (2,)]
    assert manifest.channels == ("image",)


def test_channels_that_nobody_names_go_by_number_or_by_the_names_asked_for(tmp_path):
    folder = raw(tmp_path)
    assert read(folder).channels == ("0000", "0001")
    assert read(folder, "FLAIR", "T1w").channels == ("FLAIR", "T1w")


def test_version_1_lists_images_without_channel_numbers(tmp_path):
    folder = raw(tmp_path)
    entries = [
        {"image": f"./imagesTr/BRATS_00{n}.nii.gz", "label": f"./labelsTr/BRATS_00{n}.nii.gz"}
        for n in (1, 2)
    ]
    description = {"modality": {"0": "MRI", "1": "MRI"}, "training": entries}
    (folder / "dataset.json").write_text(json.dumps(description))
    manifest = read(folder)
    assert manifest.channels == ("MRI_0000", "MRI_0001")
    assert [case.labels for case in manifest.cases] == [(1,), (2,)]
    assert [case.case for case in manifest.cases] == [case.case for case in read(folder).cases]


def test_an_entry_with_several_images_is_one_case(tmp_path):
    folder = raw(tmp_path)
    files = [f"imagesTr/BRATS_001_000{n}.nii.gz" for n in (0, 1)]
    (folder / "dataset.json").write_text(json.dumps({"training": [{"image": files}]}))
    (case,) = read(folder).cases
    assert list(case.images) == ["0000", "0001"]


@pytest.mark.fault(20)
def test_channels_are_looked_for_beside_the_image_and_not_below(tmp_path, monkeypatch, measured):
    beside = scan(tmp_path / "a" / "x_0000.nii.gz", 1)
    below = scan(tmp_path / "a" / "b" / "x_0001.nii.gz", 2)
    names = [str(tmp_path / "a" / "x.nii.gz"), "/x.nii.gz", f"{beside}/x.nii.gz", "/nowhere/x.nii"]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/dataset.json").write_text(json.dumps({"training": names}))
    walked = []
    real = os.walk
    monkeypatch.setattr(os, "walk", lambda top, **kw: walked.append(Path(top)) or real(top, **kw))
    listed = list_scans(tmp_path / "raw")
    assert [one.image for one in listed] == [beside, *map(Path, names[1:])]
    assert below not in {path for one in listed for path in one.images.values()}
    assert all(top.is_relative_to(tmp_path / "raw") for top in walked)
    measured(f"{len(names)} absolute names, {len(walked)} folders walked, all of the data set")


def test_files_named_elsewhere_are_found(tmp_path):
    folder = raw(tmp_path / "elsewhere")
    files = {
        f"case{n}": {
            "images": [str(folder / f"imagesTr/BRATS_00{n}_000{c}.nii.gz") for c in (0, 1)],
            "label": str(folder / f"labelsTr/BRATS_00{n}.nii.gz"),
        }
        for n in (1, 2)
    }
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/dataset.json").write_text(json.dumps({**VERSION_2, "dataset": files}))
    manifest = read(tmp_path / "raw")
    assert [case.case for case in manifest.cases] == [PSEUDONYMS.case(f"case{n}") for n in (1, 2)]
    assert [case.labels for case in manifest.cases] == [(1,), (2,)]


@pytest.mark.fault(16)
def test_a_case_that_lacks_a_channel_or_has_one_too_many_is_refused(tmp_path, measured):
    folder = raw(tmp_path, **VERSION_2)
    (folder / "imagesTr/BRATS_001_0000.nii.gz").unlink()
    scan(folder / "imagesTr/BRATS_002_0002.nii.gz", 60)
    refused = index(folder, PSEUDONYMS)[0].refusals
    assert [(r.code, r.what) for r in refused] == [
        ("E_CHANNEL", "no FLAIR"),
        ("E_CHANNEL", "channel 2 is not in dataset.json or there twice"),
    ]
    assert "BRATS" not in str(refused)
    measured(f"{len(refused)} of 2 cases refused: E_CHANNEL")


def test_another_format_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"E_DATASET.*\.mha.*convert them to \.nii\.gz"):
        read(raw(tmp_path, **{**VERSION_2, "file_ending": ".mha"}))


@pytest.mark.parametrize("described", [True, False])
def test_a_label_map_that_fits_no_image_is_told(tmp_path, caplog, described):
    folder = raw(tmp_path, **(VERSION_2 if described else {}))
    label(folder / "labelsTr" / "BRATS_009.nii.gz")
    label(folder / "labelsTr" / "BRATS_010.nii.gz")
    with caplog.at_level(logging.WARNING):
        read(folder)
    assert "E_LABEL_UNUSED: 2 label maps fit no image" in caplog.text
    assert "BRATS" not in caplog.text


@pytest.mark.parametrize("layout", ["loose", "Decathlon", "BIDS"])
def test_unused_label_maps_are_told_in_every_layout(tmp_path, caplog, layout):
    if layout == "BIDS":
        (tmp_path / "dataset_description.json").write_text("{}")
        scan(tmp_path / "sub-1/anat/sub-1_T1w.nii.gz", 1)
        label(tmp_path / "derivatives/sub-1/anat/sub-1_space-x_dseg.nii.gz")
    else:
        scan(tmp_path / "imagesTr/a.nii.gz", 1)
        label(tmp_path / "labelsTr/a_x.nii.gz")
        if layout == "Decathlon":
            (tmp_path / "dataset.json").write_text('{"training": ["imagesTr/a.nii.gz"]}')
    with caplog.at_level(logging.WARNING):
        assert len(read(tmp_path).cases) == 1
    assert "E_LABEL_UNUSED: 1 label maps" in caplog.text


@pytest.mark.fault("channels as patients")
def test_numbered_files_in_a_plain_folder_are_never_taken_for_patients(tmp_path):
    for number, name in enumerate("ab"):
        for channel in (0, 1):
            scan(tmp_path / "scans" / f"{name}_000{channel}.nii.gz", 2 * number + channel)
    with pytest.raises(DataError, match=r"E_CHANNEL.*imagesTr"):
        read(tmp_path / "scans")
    for name in ("a", "b"):
        (tmp_path / "scans" / f"{name}_0001.nii.gz").unlink()
    assert len(read(tmp_path / "scans").cases) == 2


@pytest.mark.fault("channels as patients")
def test_numbered_scans_of_one_series_of_names_are_scans(tmp_path):
    for number in range(3):
        scan(tmp_path / f"scan_{number:04d}.nii.gz", number)
    assert len(read(tmp_path).cases) == 3
