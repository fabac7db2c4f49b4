"""The same voxels are one scan, however they are stored."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from medgan.core.volume import Volume
from medgan.data.duplicates import voxel_hash
from medgan.data.index import index
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"salt")
VOXELS = np.random.default_rng(0).integers(0, 999, (8, 9, 10)).astype(np.int16)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)


def turned(path: Path) -> None:
    way = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("PIR"))
    data = apply_orientation(VOXELS, way)
    save(path, np.ascontiguousarray(data), AFFINE @ inv_ornt_aff(way, VOXELS.shape))


def scaled(path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS // 2, AFFINE)
    image.header.set_slope_inter(2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def compressed_otherwise(path: Path) -> None:
    save(path.with_name("plain.nii"), VOXELS)
    raw = path.with_name("plain.nii").read_bytes()
    path.with_name("plain.nii").unlink()
    path.write_bytes(gzip.compress(raw, 1))


def described(path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, AFFINE)
    image.header["descrip"] = b"another text"
    nibabel.save(image, path)


COPIES: dict[str, Callable[[Path], None]] = {
    "not compressed": lambda path: save(path.with_name("b.nii"), VOXELS),
    "compressed otherwise": compressed_otherwise,
    "another orientation": turned,
    "another header": described,
    "another origin": lambda path: save(path, VOXELS, AFFINE + 5 * np.eye(4, k=3)),
    "a wrong orientation in the header": lambda path: save(
        path, VOXELS, np.diag([-1.0, 1.5, 2.0, 1.0])
    ),
    "float32": lambda path: save(path, VOXELS.astype(np.float32)),
    "float64": lambda path: save(path, VOXELS.astype(np.float64)),
}  # fmt: skip


@pytest.mark.fault(17)
@pytest.mark.fault("duplicates by content")
@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_refused_whatever_it_is_stored_as(tmp_path, copy, measured):
    save(tmp_path / "a.nii.gz", VOXELS)
    COPIES[copy](tmp_path / "b.nii.gz")
    save(tmp_path / "c.nii.gz", VOXELS[::-1] + np.int16(1))
    manifest, key = index(tmp_path, PSEUDONYMS)
    assert len(key) == 3
    assert len(manifest.cases) == 2
    (refusal,) = manifest.refusals
    assert refusal.code == "E_DUPLICATE"
    assert refusal.what == f"same voxels as {PSEUDONYMS.case('a')}"
    measured(f"{copy}: {refusal.code}")


@pytest.mark.fault(17)
@pytest.mark.fault("duplicates by content")
def test_scaled_values_are_compared_as_they_are_read(tmp_path):
    even = VOXELS // 2 * 2
    save(tmp_path / "a.nii.gz", even)
    scaled(tmp_path / "b.nii.gz")
    manifest, _ = index(tmp_path, PSEUDONYMS)
    assert [refusal.code for refusal in manifest.refusals] == ["E_DUPLICATE"]


@pytest.mark.fault(17)
@pytest.mark.fault("duplicates by content")
def test_subjects_that_share_a_scan_are_one_subject(tmp_path):
    """Else their other scans could fall on both sides of a split."""
    other = np.random.default_rng(1)
    save(tmp_path / "p1" / "first.nii.gz", VOXELS)
    save(tmp_path / "p2" / "again.nii", VOXELS)
    for name in ("p1/x", "p2/y", "p3/z"):
        save(tmp_path / f"{name}.nii.gz", other.integers(0, 999, (8, 9, 10)).astype(np.int16))
    manifest, _ = index(tmp_path, PSEUDONYMS)
    assert len(manifest.cases) == 4
    assert {case.subject for case in manifest.cases} == {
        PSEUDONYMS.subject("p1"), PSEUDONYMS.subject("p3")
    }  # fmt: skip


@pytest.mark.fault(17)
@pytest.mark.fault("duplicates by content")
def test_two_channels_that_are_one_image_are_refused(tmp_path):
    save(tmp_path / "a.nii.gz", VOXELS)
    save(tmp_path / "b.nii", VOXELS)
    (tmp_path / "list.csv").write_text("T1,T2\na.nii.gz,b.nii\n")
    manifest, _ = index(tmp_path / "list.csv", PSEUDONYMS, channels=["T1", "T2"])
    assert [(r.code, r.what) for r in manifest.refusals] == [
        ("E_DUPLICATE", "two channels are one image")
    ]


@pytest.mark.fault(17)
@pytest.mark.fault("duplicates by content")
def test_a_manifest_that_lists_one_scan_twice_keeps_one(tmp_path):
    save(tmp_path / "a.nii.gz", VOXELS)
    manifest, _ = index(tmp_path / "a.nii.gz", PSEUDONYMS)
    other = index((tmp_path / "a.nii.gz").rename(tmp_path / "b.nii.gz"), PSEUDONYMS)[0]
    save(tmp_path / "a.nii.gz", VOXELS)
    Manifest((*manifest.cases, *other.cases)).save(tmp_path / "manifest.json")
    again, _ = index(tmp_path / "manifest.json", PSEUDONYMS)
    assert len(again.cases) == 1
    assert [refusal.code for refusal in again.refusals] == ["E_DUPLICATE"]


@pytest.mark.fault(17)
@pytest.mark.fault("duplicates by content")
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.integers(0, 719))
def test_a_hash_is_the_same_in_every_orientation_and_another_after_any_change(axes, flips, at):
    data = VOXELS.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    assert (
        voxel_hash(data) == voxel_hash(VOXELS.astype(np.float64)) == voxel_hash(VOXELS * -1.0 * -1)
    )
    changed = VOXELS.copy()
    changed.flat[at] += 1
    assert voxel_hash(changed) != voxel_hash(VOXELS)


@pytest.mark.fault(17)
@pytest.mark.fault("duplicates by content")
def test_negative_zero_is_zero():
    assert voxel_hash(np.array([0.0, 1])) == voxel_hash(np.array([1, -0.0]))


@pytest.mark.fault(17)
@pytest.mark.fault("duplicates by content")
def test_copies_are_told_from_scans_of_one_patient(tmp_path):
    rng = np.random.default_rng(2)
    for visit in (1, 2):
        noise = rng.normal(0, 1, VOXELS.shape).astype(np.float32)
        Volume(VOXELS + noise, AFFINE).save(tmp_path / f"sub-1_ses-{visit}.nii.gz")
    assert len(index(tmp_path, PSEUDONYMS)[0].cases) == 2
