import errno
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan.core.errors import DataError, EnvironmentFailure
from medgan.core.volume import AIR, SYNTHETIC, Volume, bounds, depth, save_frames

TILTED = np.array([[1.6, -0.6, 0, -5], [1.2, 0.8, 0, 7], [0, 0, -3, 9], [0, 0, 0, 1]])
GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def noise(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_what_is_saved_is_loaded(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "new" / "folder" / f"a.{ending}"
    Volume(noise(), TILTED).save(path)
    loaded = Volume.load(path)
    np.testing.assert_array_equal(loaded.data, noise())
    np.testing.assert_allclose(loaded.affine, TILTED, rtol=1e-6)
    np.testing.assert_allclose(loaded.spacing, (2, 1, 3))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_both_forms_of_a_saved_affine_agree(tmp_path: Path) -> None:
    Volume(noise(), TILTED).save(tmp_path / "a.nii")
    header = nibabel.load(tmp_path / "a.nii").header
    np.testing.assert_allclose(header.get_sform(), TILTED, atol=1e-5)
    np.testing.assert_allclose(header.get_qform(), TILTED, atol=1e-5)
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)  # of a scanner


@pytest.mark.parametrize(("qform", "sform"), [(1, 0), (0, 2), (1, 1), (2, 4), (0, 0)])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_like_keeps_geometry_to_the_bit_and_drops_all_text(
    tmp_path: Path, qform: int, sform: int, endian: str
) -> None:
    header = nibabel.Nifti1Header(endianness=endian)
    scan = nibabel.Nifti1Image(noise().astype(np.int16), None, header)
    if qform:
        scan.set_qform(TILTED, qform)
    if sform:
        moved = TILTED.copy()
        moved[:3, 3] += 0.123456
        scan.set_sform(moved, sform)
        scan.header.set_zooms(np.linalg.norm(TILTED[:3, :3], axis=0))
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        scan.header[field] = b"DOE^JANE"
    scan.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    scan.header.set_xyzt_units("mm", "sec")
    scan.header.set_slope_inter(2, 5)
    nibabel.save(scan, tmp_path / "scan.nii")
    scan = nibabel.load(tmp_path / "scan.nii")
    assert b"DOE^JANE" in (tmp_path / "scan.nii").read_bytes()

    Volume.load(tmp_path / "scan.nii").like(noise()).save(tmp_path / "map.nii", "a map")
    written = nibabel.load(tmp_path / "map.nii")
    for field in GEOMETRY:
        np.testing.assert_array_equal(written.header[field], scan.header[field], err_msg=field)
    np.testing.assert_array_equal(written.affine, scan.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), noise())
    assert b"DOE" not in (tmp_path / "map.nii").read_bytes()
    assert written.header["descrip"] == b"a map"


def test_a_long_description_is_cut_and_a_foreign_letter_replaced(tmp_path: Path) -> None:
    Volume(noise(), TILTED).save(tmp_path / "a.nii", description="é" + "x" * 200)
    assert nibabel.load(tmp_path / "a.nii").header["descrip"] == b"?" + b"x" * 78


def test_a_single_fourth_axis_is_dropped_and_a_series_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(noise((4, 5, 6, 1)), TILTED), tmp_path / "a.nii")
    assert Volume.load(tmp_path / "a.nii").data.shape == (4, 5, 6)
    nibabel.save(nibabel.Nifti1Image(noise((4, 5, 6, 2)), TILTED), tmp_path / "b.nii")
    with pytest.raises(DataError, match="E_DIMENSIONS"):
        Volume.load(tmp_path / "b.nii")


def test_a_map_of_a_scan_with_a_single_fourth_axis_has_one_too(tmp_path: Path) -> None:
    for shape in ((4, 5, 6, 1), (4, 5, 6)):
        nibabel.save(nibabel.Nifti1Image(noise(shape), TILTED), tmp_path / "scan.nii")
        Volume.load(tmp_path / "scan.nii").like(noise()).save(tmp_path / "map.nii")
        assert nibabel.load(tmp_path / "map.nii").shape == shape


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASL", "SAR"])
def test_the_field_of_view_runs_along_right_anterior_superior(codes: str) -> None:
    affine = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(codes), (4, 5, 6))
    volume = Volume(noise(), np.diag([2.0, 3.0, 4.0, 1.0]) @ np.linalg.inv(affine))
    order = [codes.translate(str.maketrans("LPI", "RAS")).index(axis) for axis in "RAS"]
    along = np.multiply(volume.shape, volume.spacing)[order]
    np.testing.assert_allclose(volume.field_of_view, along)


def test_an_older_file_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii.gz"
    Volume(noise(), TILTED).save(path)
    before = path.read_bytes()

    def full(image: object, name: Path) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nibabel, "save", full)
    with pytest.raises(EnvironmentFailure, match="E_DISK"):
        Volume(2 * noise(), TILTED).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_an_error_with_a_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="E_DISK"):
        Volume(noise(), TILTED).save(tmp_path / "file" / "a.nii")


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((-2.0, 2.0))] * 3))
def test_voxels_of_the_canonical_order_come_back_to_their_places(order, steps):
    affine = np.eye(4)
    affine[:3, :3] = np.diag(steps)[:, list(order)]
    volume = Volume(np.arange(24.0).reshape(2, 3, 4), affine)
    plain = volume.canonical()
    back = volume.from_canonical(plain.data)
    assert np.array_equal(back.data, volume.data)
    assert np.array_equal(back.affine, affine)


def test_the_box_of_a_mask_holds_all_of_it_and_nothing_more() -> None:
    mask = np.zeros((7, 8, 9), dtype=bool)
    assert bounds(mask) == (slice(0, 0),) * 3
    mask[2, 3, 4] = mask[5, 3, 8] = mask[2, 1, 4] = mask[3, 2, 5] = True
    assert bounds(mask) == (slice(2, 6), slice(1, 4), slice(4, 9))
    assert bounds(np.ones((5, 3, 4), dtype=bool)) == (slice(0, 5), slice(0, 3), slice(0, 4))


def test_depth_is_the_distance_to_air_and_a_hole_of_one_voxel_is_none() -> None:
    volume = np.full((24, 24, 24), -1.0, np.float32)
    volume[6:18, 6:18, 6:18] = 0.0  # a cube of 12
    whole = depth(volume)
    assert whole.max() == 6
    assert [whole[n, 12, 12] for n in range(5, 10)] == [0, 1, 2, 3, 4]
    assert whole[0, 0, 0] == 0
    volume[12, 12, 12] = -1.0
    np.testing.assert_array_equal(depth(volume), whole)
    volume[9:15, 9:15, 9:15] = -1.0
    assert depth(volume)[12, 12, 12] == 0


@pytest.mark.parametrize(("thick", "tissue"), [(2, False), (4, True)])
def test_depth_does_not_count_a_sheet_of_two_voxels_as_tissue(thick: int, tissue: bool) -> None:
    volume = np.full((20, 20, 20), -1.0, np.float32)
    volume[8 : 8 + thick] = 0.0
    assert bool(depth(volume).any()) is tissue


def test_depth_counts_as_tissue_what_is_brighter_than_air_and_has_no_end_without_air() -> None:
    volume = np.full((8, 8, 8), AIR, np.float32)
    assert not depth(volume).any()
    assert np.isposinf(depth(np.nextafter(volume, np.float32(0)))).all()


@pytest.mark.parametrize("unit", ["mm", "unknown"])
def test_frames_are_one_file_with_the_geometry_of_the_first(tmp_path: Path, unit: str) -> None:
    source = nibabel.Nifti1Image(noise(), TILTED)
    source.header.set_xyzt_units(unit, "msec")
    source.set_sform(TILTED, 4)  # in the space of a template
    nibabel.save(source, tmp_path / "a.nii")
    one = Volume.load(tmp_path / "a.nii")
    frames = [one, *(Volume(number * noise(), one.affine) for number in (2, 3))]
    save_frames(frames, tmp_path / "b.nii.gz", first=40.0, step=2.5, description=SYNTHETIC)
    written = nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(written.affine, one.affine)
    for number in range(3):
        np.testing.assert_array_equal(written.dataobj[..., number], (number + 1) * noise())
    assert written.header.get_xyzt_units() == (unit, "sec")
    assert int(written.header["sform_code"]) == 4
    assert float(written.header["toffset"]) == 40.0
    assert float(written.header["pixdim"][4]) == 2.5
    save_frames(frames[:2], tmp_path / "c.nii")
    usual = nibabel.load(tmp_path / "c.nii").header
    assert (float(usual["toffset"]), float(usual["pixdim"][4])) == (0.0, 1.0)
    assert bytes(usual["descrip"].tobytes()).strip(b"\0") == b""


def test_frames_of_a_scan_in_micrometres_stay_in_micrometres(tmp_path: Path) -> None:
    source = nibabel.Nifti1Image(noise(), np.diag([1000.0, 1000, 1000, 1]) @ TILTED)
    source.header.set_xyzt_units("micron")
    nibabel.save(source, tmp_path / "a.nii")
    one = Volume.load(tmp_path / "a.nii")
    np.testing.assert_allclose(one.spacing, (2, 1, 3), rtol=1e-6)
    save_frames([one, one.like(2 * noise())], tmp_path / "b.nii")
    assert nibabel.load(tmp_path / "b.nii").header.get_xyzt_units() == ("micron", "sec")


def test_what_is_synthetic_says_so_when_it_is_read_again(tmp_path: Path) -> None:
    assert not Volume(noise(), TILTED).is_synthetic
    for description in ("", SYNTHETIC, f"{SYNTHETIC}: a lesion"):
        Volume(noise(), TILTED).save(tmp_path / "a.nii", description)
        assert Volume.load(tmp_path / "a.nii").is_synthetic == bool(description)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_map_is_of_the_version_of_its_scan(tmp_path: Path, kind: type) -> None:
    nibabel.save(kind(noise(), TILTED), tmp_path / "scan.nii")
    Volume.load(tmp_path / "scan.nii").like(noise()).save(tmp_path / "map.nii")
    assert type(nibabel.load(tmp_path / "map.nii")) is kind
