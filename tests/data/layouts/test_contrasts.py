"""Loose files whose names differ by a contrast are one patient's."""

import logging
from itertools import product
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.layouts.layouts import list_scans
from medgan.data.layouts.listed import Selection
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import Pseudonyms


def scan(path: Path, label: bool = False) -> Path:
    values = (
        np.random.default_rng(crc32(path.name.encode()))
        .normal(100, 20, (8, 9, 10))
        .astype(np.float32)
    )
    Volume((values > 110).astype(np.uint8) if label else values, np.eye(4)).save(path)
    return path


def read(source: Path, *channels: str, suffix: str = "") -> Manifest:
    return index(source, Pseudonyms(b"salt"), channels=channels, suffix=suffix)[0]


@pytest.mark.fault("channels as patients")
def test_contrasts_of_one_patient_are_channels_of_a_scan(tmp_path, measured):
    patterns = ("{p}_{c}", "{c}-{p}", "{p}.{c}", "{p}/{c}", "{p}/{p}-{c}", "sub-{p}_{c}")
    pairs = (("t1", "t2"), ("T1w", "FLAIR"), ("t1_post", "t1"), ("CT", "pet"), ("adc", "dwi"))
    folders = 0
    for pattern, contrasts in product(patterns, pairs):
        folder = tmp_path / str(folders)
        for patient, contrast in product(("p1", "p2", "x3"), contrasts):
            path = folder / f"{pattern.format(p=patient, c=contrast)}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with pytest.raises(DataError, match=r"E_SUFFIX.*several scans of one patient.*suffix="):
            list_scans(folder)
        joined = list_scans(folder, Selection(channels=contrasts))
        assert len({one.subject for one in joined}) == len({one.name for one in joined}) == 3
        assert {tuple(one.images) for one in joined} == {contrasts}
        assert len({path for one in joined for path in one.images.values()}) == 6
        alone = list_scans(folder, Selection(suffix=contrasts[1].swapcase()))
        assert [one.subject for one in alone] == [one.subject for one in joined]
        assert [one.image for one in alone] == [one.images[contrasts[1]] for one in joined]
        folders += 1
    measured(f"{folders} folders of 6 files, 3 patients each")


def test_one_contrast_alone_changes_nothing(tmp_path):
    scan(tmp_path / "p1_t1.nii.gz")
    scan(tmp_path / "p2_t1.nii.gz")
    scan(tmp_path / "p3_t2.nii.gz")
    assert len(read(tmp_path).cases) == 3


def test_a_patient_without_a_channel_is_refused_and_other_files_are_told(tmp_path, caplog):
    for name in ("p1_t1", "p1_t2", "p2_t1", "overview"):
        scan(tmp_path / f"{name}.nii.gz")
    scan(tmp_path / "p1_seg.nii.gz", label=True)
    with caplog.at_level(logging.WARNING):
        manifest = read(tmp_path, "t2", "t1")
    assert [bool(case.label) for case in manifest.cases] == [True]
    assert [refusal.code for refusal in manifest.refusals] == ["E_CHANNEL"]
    assert "1 files have no contrast" in caplog.text


def test_a_contrast_that_is_not_there_is_named(tmp_path):
    for name in ("p1_t1", "p1_t2"):
        scan(tmp_path / f"{name}.nii.gz")
    with pytest.raises(DataError, match=r"E_CHANNEL.*flair.*choose among t1, t2"):
        read(tmp_path, suffix="flair")
    with pytest.raises(DataError, match=r"E_CHANNEL.*flair.*choose among t1, t2"):
        read(tmp_path, "t1", "flair")


def test_one_image_in_two_files_is_told(tmp_path):
    for name in ("p1_t1.nii", "p1_t1.nii.gz", "p1_t2.nii.gz"):
        scan(tmp_path / name)
    manifest = read(tmp_path, suffix="t1")
    assert len(manifest.cases) + len(manifest.refusals) == 2
