"""Where the voxels of a file lie: one rule for all readers, and it is kept in what is written.

What is damaged or cut is in tests/data/test_checks.py.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError
from medgan.core.nifti import read_nifti
from medgan.core.volume import Volume
from medgan.data.checks import check_label
from medgan.data.prepare import Preparation

SHAPE = (14, 16, 12)
FORMS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
few = settings(deadline=None, max_examples=30)


def voxels(seed: int = 0) -> np.ndarray:
    """Brighter towards the right, the front and the top, so that no turn goes unnoticed."""
    x, y, z = np.indices(SHAPE)
    noise = np.random.default_rng(seed).integers(0, 100, SHAPE)
    return (60 * x + 9 * y + 25 * z + noise).astype(np.int16)


def lps(path: Path, data: np.ndarray) -> Path:
    """The same scan as a common converter leaves it: LPS order, s-form alone, rounded pixdim.

    The q-form is all zeros with code 0, and pixdim differs from the s-form by 5e-5.
    """
    turn = axcodes2ornt("LPS")
    image = nibabel.Nifti1Image(apply_orientation(data, turn), None)
    header = image.header
    affine = inv_ornt_aff(turn, SHAPE)
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    header["sform_code"], header["qform_code"] = 1, 0
    header["pixdim"][:4] = 1, 1.00005, 1.00005, 1.00005
    path.write_bytes(nibabel.Nifti1Image(image.dataobj, None, header).to_bytes())
    return path


def two_forms(path: Path, data: np.ndarray) -> Path:
    """A q-form of the scanner, and an s-form that was turned and shifted by a registration."""
    image = nibabel.Nifti1Image(data, np.eye(4))
    image.set_qform(np.eye(4), 1)
    aligned = np.eye(4)
    aligned[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    aligned[:3, 3] = 15, -8, 6
    image.set_sform(aligned, 2)
    path.write_bytes(image.to_bytes())
    return path


@pytest.mark.fault("two readers")
@pytest.mark.parametrize("write", [lps, two_forms])
def test_medgan_takes_the_affine_that_nibabel_takes(tmp_path: Path, write) -> None:
    path = write(tmp_path / "scan.nii", voxels())
    wanted = nibabel.load(path)
    read = read_nifti(path, "c-1")
    np.testing.assert_array_equal(read.volume.affine, wanted.affine)
    np.testing.assert_array_equal(read.volume.data, np.asarray(wanted.dataobj))
    assert [note.code for note in read.notes] == ["W_TWO_FORMS"] * (write is two_forms)


@pytest.mark.fault(10)
@pytest.mark.parametrize(
    ("factor", "code"), [(1.0005, None), (1.02, "E_SPACING"), (-1, "E_HEADER")]
)
def test_two_voxel_sizes_in_one_header_are_refused_beyond_rounding(
    tmp_path, factor, code, measured
):
    image = nibabel.Nifti1Image(voxels(), np.eye(4))
    image.header["pixdim"][2] = factor
    raw = bytearray(image.to_bytes())
    header = np.frombuffer(raw, nibabel.Nifti1Header().structarr.dtype, 1)
    header["pixdim"][0][2] = factor
    (tmp_path / "scan.nii").write_bytes(raw)
    try:
        read_nifti(tmp_path / "scan.nii", "c-1")
        found = None
    except DataError as error:
        found = error.code
    assert found == code
    measured(f"pixdim {factor:g} mm beside an s-form of 1 mm: {found or 'read'}")


@pytest.mark.fault("two readers")
@pytest.mark.parametrize("turn", [np.diag([-1, 1, 1, 1.0]), np.eye(4)[[1, 0, 2, 3]]])
def test_two_forms_with_different_orientations_are_refused(tmp_path, turn) -> None:
    image = nibabel.Nifti1Image(voxels(), np.eye(4))
    image.set_qform(turn, 1)
    image.set_sform(np.eye(4), 2)
    (tmp_path / "scan.nii").write_bytes(image.to_bytes())
    with pytest.raises(DataError, match="E_AFFINE c-1: its q-form and its s-form"):
        read_nifti(tmp_path / "scan.nii", "c-1")


def test_a_scan_in_lps_order_without_a_q_form_is_not_turned_over(tmp_path: Path) -> None:
    prepare = Preparation(Preprocessing(spacing=(1.0, 1.0, 1.0), shape=(16, 16, 16)))
    wanted = prepare(Volume(voxels().astype(np.float32), np.eye(4)))
    scan = read_nifti(lps(tmp_path / "scan.nii", voxels()), "c-1").volume
    np.testing.assert_array_equal(prepare(scan).volume.numpy(), wanted.volume.numpy())


@pytest.mark.parametrize("write", [lps, two_forms])
def test_a_label_map_lies_on_its_image_whatever_the_header_says(tmp_path: Path, write) -> None:
    label = (voxels() > 900).astype(np.int16) + (voxels() > 1200)
    grid = Preprocessing(spacing=(1.0, 1.0, 1.0), shape=(16, 16, 16), labels=(1, 2))
    image = read_nifti(write(tmp_path / "scan.nii", voxels()), "c-1").volume
    read = check_label(write(tmp_path / "label.nii", label), "c-1", image)
    found = Preparation(grid)(image).label_map(read.volume)
    spacing = image.spacing[0]
    plain = Volume(label.astype(np.float32), np.diag([spacing, spacing, spacing, 1.0]))
    np.testing.assert_array_equal(found, Preparation(grid)(plain).label_map(plain))
    assert set(np.unique(found)) == {0, 1, 2}


@pytest.mark.parametrize("write", [lps, two_forms])
def test_a_map_lies_on_its_scan_for_whatever_reads_it(tmp_path: Path, write) -> None:
    path = write(tmp_path / "scan.nii", voxels())
    volume = read_nifti(path, "c-1").volume
    prepare = Preparation(Preprocessing(spacing=(1.0, 1.0, 1.0), shape=(16, 16, 16)))
    prepare(volume).back(np.ones((16, 16, 16), np.float32)).save(tmp_path / "map.nii.gz")
    scan, score_map = nibabel.load(path), nibabel.load(tmp_path / "map.nii.gz")
    for field in FORMS:
        np.testing.assert_array_equal(score_map.header[field], scan.header[field], err_msg=field)
    np.testing.assert_array_equal(score_map.affine, scan.affine)
    assert score_map.shape == scan.shape


def test_a_header_without_orientation_is_noted_under_the_pseudonym(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(voxels(), None)
    nibabel.save(image, tmp_path / "DOE.nii")
    assert int(nibabel.load(tmp_path / "DOE.nii").header["sform_code"]) == 0
    (note,) = read_nifti(tmp_path / "DOE.nii", "c-1").notes
    assert str(note).startswith("W_ORIENTATION c-1: ")
    assert "left and right are a guess" in str(note)
    assert "DOE" not in str(note)


@pytest.mark.fault("units")
@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_other_units_become_mm_and_the_file_keeps_its_own(
    tmp_path: Path, unit: str, factor: float, measured
) -> None:
    affine = np.diag([2.0, 1.5, 1.0, 1.0])
    affine[:3, 3] = 5, -7, 9
    stored = affine.copy()
    stored[:3] *= factor
    image = nibabel.Nifti1Image(voxels(), stored)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "scan.nii")
    read = read_nifti(tmp_path / "scan.nii", "c-1")
    np.testing.assert_allclose(read.volume.affine, affine, rtol=1e-6)
    assert [note.code for note in read.notes] == ["W_UNITS"]
    read.volume.save(tmp_path / "again.nii")
    again = nibabel.load(tmp_path / "again.nii")
    assert again.header.get_xyzt_units()[0] == unit
    np.testing.assert_array_equal(again.affine, nibabel.load(tmp_path / "scan.nii").affine)
    measured(f"{unit}: {read.notes[0].code}, affine in mm")


@pytest.mark.fault("units")
def test_millimetres_that_are_called_metres_are_refused(tmp_path: Path, measured) -> None:
    image = nibabel.Nifti1Image(voxels(), np.eye(4))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "scan.nii")
    with pytest.raises(DataError, match="E_SPACING c-1"):
        read_nifti(tmp_path / "scan.nii", "c-1")
    measured("millimetres called metres: E_SPACING")


def test_an_ending_in_capitals_is_read(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels(), np.eye(4)), tmp_path / "scan.nii.gz")
    for name in ("x.Nii.GZ", "y.NII.gz"):
        (tmp_path / name).write_bytes((tmp_path / "scan.nii.gz").read_bytes())
        np.testing.assert_array_equal(Volume.load(tmp_path / name).data, voxels())
    nibabel.save(nibabel.Nifti1Image(voxels(), np.eye(4)), tmp_path / "scan.nii")
    (tmp_path / "scan.nii").rename(tmp_path / "x.Nii")
    np.testing.assert_array_equal(Volume.load(tmp_path / "x.Nii").data, voxels())


@st.composite
def headers(draw) -> tuple[nibabel.Nifti1Image, str]:
    """Scans with any storage order and any pair of forms that a converter may leave."""
    codes = draw(st.sampled_from(["RAS", "LPS", "LAS", "RSA", "PIL", "ASR"]))
    turn = axcodes2ornt(codes)
    spacing = np.diag([*draw(st.tuples(*[st.sampled_from([0.9375, 1.0, 1.3, 2.0])] * 3)), 1.0])
    move = np.eye(4)
    move[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    affine = move @ spacing @ inv_ornt_aff(turn, SHAPE)
    image = nibabel.Nifti1Image(apply_orientation(voxels(), turn), None)
    forms = draw(st.sampled_from(["s", "q", "both", "other q"]))
    if forms != "q":
        image.set_sform(affine, draw(st.integers(1, 4)))
    if forms in ("q", "both"):
        image.set_qform(affine, draw(st.integers(1, 4)))
    if forms == "other q":  # the scanner's, before a registration
        other = affine.copy()
        other[:3, 3] += 12
        image.set_qform(other, 1)
    if forms == "s":  # what float rounding leaves, and quaternions that nobody set
        axes = 1 + turn[:, 0].astype(int)
        image.header["pixdim"][axes] = np.diag(spacing)[:3] * 1.00005
    return image, codes


@pytest.mark.fault("two readers")
@few
@given(headers())
def test_every_voxel_keeps_its_position_from_file_to_map(drawn) -> None:
    image, _ = drawn
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        path.write_bytes(image.to_bytes())
        scan = nibabel.load(path)
        volume = read_nifti(path, "c-1").volume
        np.testing.assert_array_equal(volume.affine, scan.affine)
        spacing = tuple(np.round(np.sort(volume.spacing), 5).tolist())
        grid = Preprocessing(spacing=spacing, shape=(48, 48, 48), intensity="ct",
                             window=((0.0, 3000.0),))  # fmt: skip
        prepared = Preparation(grid)(volume)
        prepared.in_scanner_units(prepared.volume[0].numpy()).save(Path(folder) / "map.nii")
        written = nibabel.load(Path(folder) / "map.nii")
        np.testing.assert_array_equal(written.affine, scan.affine)
        for field in FORMS:
            np.testing.assert_array_equal(written.header[field], scan.header[field])
        # What is bright in the scan is bright in the map: no axis is swapped or turned over.
        a, b = np.asarray(scan.dataobj), np.asarray(written.dataobj)
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97


@few
@given(headers())
def test_the_model_sees_right_front_and_top_where_they_are(drawn) -> None:
    image, _ = drawn
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        path.write_bytes(image.to_bytes())
        volume = read_nifti(path, "c-1").volume
    upright = nibabel.as_closest_canonical(image)
    prepare = Preparation(Preprocessing(spacing=(1.0, 1.0, 1.0), shape=(16, 16, 16)))
    wanted = Volume(np.asarray(upright.dataobj, dtype=np.float32), upright.affine)
    np.testing.assert_array_equal(prepare(volume).volume.numpy(), prepare(wanted).volume.numpy())
