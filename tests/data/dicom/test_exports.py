"""Exports as they come from archives, discs and broken transfers: exact, or refused, or said."""

import os

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from medgan.core.volume import Volume
from medgan.data.dicom.files import quiet_pydicom
from medgan.data.layouts.files import files_below
from medgan.data.pseudonyms import write_private_key
from tests.kit.dicom import (
    PSEUDONYMS,
    STEP,
    affine_of,
    assert_exact,
    compress,
    expected,
    indexed,
    make_enhanced,
    make_series,
    oblique,
    one_volume,
    save,
    stored_values,
)


def statuses(source, tmp_path):
    return [(row.status, row.code) for row in indexed(source, tmp_path).series]


def of_one_uid(*parts):
    """Series put together under the UIDs of the first."""
    for part in parts[1:]:
        for ds in part:
            ds.SeriesInstanceUID = parts[0][0].SeriesInstanceUID
            ds.FrameOfReferenceUID = parts[0][0].FrameOfReferenceUID
    return [ds for part in parts for ds in part]


# What a transfer left


def test_the_disc_of_a_hospital_is_read_and_its_index_is_no_scan(tmp_path):
    disc = FileSet()
    for ds in make_series(
        "CT", slices=4, StudyDate="20200101", StudyTime="10", StudyID="1", SeriesNumber=1
    ):
        disc.add(ds)
    disc.write(tmp_path / "in")
    disc._stage["t"].cleanup()  # or it warns
    truth = expected(stored_values(4, 12, False), "CT")
    for source in (tmp_path / "in", tmp_path / "in" / "DICOMDIR"):
        volume, _ = one_volume(source, tmp_path)
        assert_exact(volume, truth, affine_of())
    assert indexed(tmp_path / "in", tmp_path).refusals == ()


@pytest.mark.parametrize("left", [b"", bytes(100), bytes(3000)])
def test_a_last_slice_of_which_nothing_is_left_is_said(left, tmp_path):
    folder = save(make_series("MR"), tmp_path / "in")
    (folder / "i007").write_bytes(left)
    (folder / "notes.txt").write_bytes(left)
    found = indexed(folder, tmp_path)
    assert [(row.status, row.code) for row in found.series] == [
        ("used", ""), ("refused", "E_EMPTY"),
    ]  # fmt: skip
    assert found.series[0].what.startswith("a file in its folder is damaged")
    assert [refusal.code for refusal in found.refusals] == ["E_EMPTY"]


def test_a_file_cut_on_the_disk_is_refused_wherever_it_ends(tmp_path):
    folder = save(make_series("MR"), tmp_path / "in")
    whole = (folder / "i007").read_bytes()
    for end, codes in ((len(whole) - 1000, {"E_TRUNCATED"}), (700, {"E_HEADER"}),
                       (400, {"", "E_DICOM"})):  # fmt: skip
        (folder / "i007").write_bytes(whole[:end])
        assert {code for _, code in statuses(folder, tmp_path)} == codes


@pytest.mark.fault(19)
@pytest.mark.fault(20)
def test_what_a_folder_shuts_or_links_to_is_said_and_circles_are_not_walked(tmp_path, monkeypatch):
    series = make_series("MR")
    save(series[:5], tmp_path / "in" / "a")
    save(series[5:], tmp_path / "elsewhere", "j")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "d").symlink_to(tmp_path / "in" / "d")
    assert statuses(tmp_path / "in", tmp_path) == [("used", ""), ("refused", "E_OUTSIDE")]
    (tmp_path / "in" / "b").unlink()
    shut = save(series[5:], tmp_path / "in" / "shut", "j")
    real = os.scandir

    def scandir(path):
        if str(path) == str(shut):  # as it is for all but root
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert shut in files_below(tmp_path / "in")
    assert statuses(tmp_path / "in", tmp_path) == [("used", ""), ("refused", "E_UNREADABLE")]


@pytest.mark.fault(21)
def test_names_of_files_may_be_anything_and_reach_nothing(tmp_path):
    top = os.fsencode(tmp_path) + b"/in/M\xfcller\n Hans"  # no UTF-8, as old archives leave it
    os.makedirs(top)
    for number, ds in enumerate(make_series("MR", slices=4)):
        name = os.fsdecode(top + b"/KOPF \xe4.%d.IMA" % number)
        pydicom.dcmwrite(name, ds, enforce_file_format=True)
    with open(top + b"/kaputt\xff.dcm", "wb") as file:
        file.write(b"nothing")
    found = indexed(tmp_path / "in", tmp_path)
    assert [row.code for row in found.series] == ["", "E_DICOM"]
    assert not any(word in str(found.refusals + found.series) for word in ("ller", "kaputt"))
    volume = Volume.load(found.cases[0].image)
    assert_exact(volume, expected(stored_values(4, 12, False)), affine_of())
    write_private_key(tmp_path / "key.csv", [("c", "s", os.fsdecode(top))])
    assert top in (tmp_path / "key.csv").read_bytes()
    assert PSEUDONYMS.case("Müller") != PSEUDONYMS.case(os.fsdecode(b"M\xfcller"))


# How slices belong together


@pytest.mark.fault(23)
def test_three_planes_under_one_uid_are_a_localizer_whatever_it_is_called(tmp_path):
    planes = [
        make_series("MR", slices=4, seed=seed, cosines=cosines)
        for seed, cosines in enumerate(
            [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)]
        )
    ]
    save(of_one_uid(*planes), tmp_path / "in")
    assert statuses(tmp_path / "in", tmp_path) == [("ignored", "E_LOCALIZER")] * 3


def test_a_series_in_parts_of_several_folders_and_syntaxes_is_one(tmp_path):
    series = make_series("CT")
    save(series[::2], tmp_path / "in" / "1")
    save(series[1::2], tmp_path / "in" / "2")
    for path in (tmp_path / "in" / "2").iterdir():
        compress(path, JPEGLSLossless)
    volume, row = one_volume(tmp_path / "in", tmp_path)
    assert_exact(volume, expected(stored_values(8, 12, False), "CT"), affine_of())
    assert row.what == ""


def test_an_enhanced_series_in_two_files_is_one_stack(tmp_path):
    parts = [make_enhanced("MR", slices=4, seed=seed) for seed in range(2)]
    for number, group in enumerate(parts[1].PerFrameFunctionalGroupsSequence, start=4):
        group.PlanePositionSequence[0].ImagePositionPatient[2] = 100 + number * STEP
    save(of_one_uid(parts[:1], parts[1:]), tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    stored = np.concatenate([stored_values(4, 12, False, seed) for seed in range(2)])
    assert_exact(volume, expected(stored), affine_of())


def stacks_apart(ds):
    """Two stacks of four, 20 cm from each other."""
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        place = 100 + number * STEP + 200 * (number >= 4)
        group.PlanePositionSequence[0].ImagePositionPatient[2] = place
    return ds


def two_phases(ds):
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSequence[0].ImagePositionPatient[2] = 100 + number // 2 * STEP
    return ds


@pytest.mark.parametrize(
    ("code", "broken"), [("E_SLICE_GAP", stacks_apart), ("E_TIME_SERIES", two_phases)]
)
def test_several_stacks_of_one_enhanced_file_are_no_scan(code, broken, tmp_path):
    save([broken(make_enhanced("CT"))], tmp_path / "in")
    assert statuses(tmp_path / "in", tmp_path) == [("refused", code)]


def test_stacks_in_two_directions_of_one_enhanced_file_are_scans_of_their_own(tmp_path):
    ds = make_enhanced("CT")
    for number, group in list(enumerate(ds.PerFrameFunctionalGroupsSequence))[4:]:
        turned = Dataset()
        turned.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        group.PlaneOrientationSequence = Sequence([turned])
        group.PlanePositionSequence[0].ImagePositionPatient = [number * STEP, -30, 200]
    save([ds], tmp_path / "in")
    axial, sagittal = indexed(tmp_path / "in", tmp_path).cases
    stored = stored_values(8, 12, False)
    assert_exact(Volume.load(axial.image), expected(stored[:4], "CT"), affine_of())
    volume = Volume.load(sagittal.image)
    # The normal points to the right: the last frame lies first.
    np.testing.assert_array_equal(volume.data, expected(stored[:3:-1], "CT"))


def test_each_frame_of_an_enhanced_file_has_its_own_rescaling(tmp_path):
    ds = make_enhanced("MR")
    del ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        own = Dataset()
        own.RescaleSlope, own.RescaleIntercept, own.RescaleType = number + 0.5, -number, "US"
        group.PixelValueTransformationSequence = Sequence([own])
    save([ds], tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    number = np.arange(8, dtype=np.float32)
    stored = expected(stored_values(8, 12, False))
    np.testing.assert_array_equal(volume.data, stored * (number + 0.5) - number)


@pytest.mark.parametrize("step", [2.5, 0.6])
def test_positions_with_one_decimal_lie_as_simpleitk_lays_them(step, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    series = make_series("CT", slices=20, cosines=oblique(), step=step)
    for number, ds in enumerate(series):
        ds.ImagePositionPatient = [round(float(value), 1) for value in ds.ImagePositionPatient]
        ds.InstanceNumber = 20 - number  # against the order of places
    folder = save(series, tmp_path / "in")
    volume, row = one_volume(folder, tmp_path)
    assert row.what.startswith("slice positions corrected")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    assert_exact(
        volume, sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine
    )


def test_a_pseudonym_does_not_hang_on_which_file_comes_first(tmp_path):
    series = make_series("MR")
    for number, ds in enumerate(series):  # the cosine rounds to 0.12 or 0.13
        turn = np.arcsin(0.125 + 1e-5 * (-1) ** number)
        x, y = round(np.cos(turn), 6), round(np.sin(turn), 6)
        ds.ImageOrientationPatient = [x, y, 0, -y, x, 0]
    one = indexed(save(series, tmp_path / "1"), tmp_path).cases[0].case
    assert one == indexed(save(series[::-1], tmp_path / "2"), tmp_path).cases[0].case


# What pixels are


def test_a_ct_whose_values_cannot_be_hu_is_refused(tmp_path):
    save(make_series("CT", RescaleIntercept=0), tmp_path / "in")
    assert statuses(tmp_path / "in", tmp_path) == [("refused", "E_RESCALE")]
    save(make_series("CT", RescaleIntercept=0, signed=True), tmp_path / "signed")
    assert statuses(tmp_path / "signed", tmp_path) == [("used", "")]


def half_as_wide(ds):
    """16 bits a voxel, of which the header knows 8."""
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7


def turned(ds):
    ds.Rows, ds.Columns = ds.Columns, ds.Rows


def of_another_syntax(ds):
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"


@pytest.mark.parametrize(
    ("syntax", "broken", "codes"),
    [
        ("", half_as_wide, {"E_PIXELS"}),
        (JPEGLSLossless, turned, {"E_PIXELS"}),
        (JPEG2000Lossless, turned, {"E_PIXELS"}),
        (JPEGLosslessSV1, turned, {"E_PIXELS"}),
        (JPEGLSLossless, of_another_syntax, {"E_PIXELS", "E_TRUNCATED"}),
    ],
)
def test_pixels_that_are_not_as_the_header_says_are_never_shown_scrambled(
    syntax, broken, codes, tmp_path
):
    folder = save(make_series("CT", slices=3, bits=16), tmp_path / "in")
    for path in folder.iterdir():
        if syntax:
            compress(path, syntax)
        ds = pydicom.dcmread(path)
        broken(ds)
        with quiet_pydicom():
            ds.save_as(path)
    ((status, code),) = statuses(folder, tmp_path)
    assert status == "refused"
    assert code in codes


def test_padding_after_the_pixels_is_no_fault(tmp_path):
    series = make_series("MR")
    for ds in series:
        ds.PixelData += bytes(512)
    save(series, tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    assert_exact(volume, expected(stored_values(8, 12, False)), affine_of())
