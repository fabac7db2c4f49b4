import gzip
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medgan.core import nifti
from medgan.core.errors import DataError
from medgan.core.nifti import MAX_BYTES
from medgan.core.volume import Volume
from medgan.data.checks import check_image, check_label
from tests.kit.nobody import open_folder, without_rights

CASE = "c-0123456789"
NAME = "DOE^JANE"
SHAPE = (6, 7, 8)
AFFINE = np.array([[2.0, 0, 0, -5], [0, 1.5, 0, 7], [0, 0, 3, 9], [0, 0, 0, 1]])


def voxels(shape: tuple[int, ...] = SHAPE, kind: type = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, shape).astype(kind)


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def patch(path: Path, field: str, value: object, place: int | None = None) -> Path:
    """Overwrites one header field of an unpacked file, behind nibabel's back."""
    raw = bytearray(path.read_bytes())
    header = np.frombuffer(raw, nibabel.Nifti1Header().structarr.dtype, 1)
    if place is None:
        header[field][0] = value
    else:
        header[field][0][place] = value
    path.write_bytes(raw)
    return path


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        check_image(path, CASE)
    assert NAME not in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    assert caught.value.where == CASE
    return caught.value


def outcome(path: Path) -> str:
    try:
        check_image(path, CASE)
    except DataError as error:
        leaks = NAME in str(error)
        return "the error holds the name" if leaks else error.code
    return "good"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write(tmp_path / f"{NAME}.nii", voxels())


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    return write(tmp_path / f"{NAME}.nii.gz", voxels())


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_a_good_scan_comes_back_as_it_is(tmp_path: Path, ending: str, kind: type) -> None:
    data = voxels().clip(0, 200).astype(kind)
    checked = check_image(write(tmp_path / f"{NAME}.{ending}", data), CASE).volume
    assert checked.shape == SHAPE
    np.testing.assert_allclose(checked.spacing, (2, 1.5, 3))
    np.testing.assert_array_equal(checked.data, data)
    np.testing.assert_allclose(checked.affine, AFFINE)


def test_nifti_2_and_big_endian_files_are_read(tmp_path: Path) -> None:
    second = tmp_path / "second.nii.gz"
    nibabel.save(nibabel.Nifti2Image(voxels(), AFFINE), second)
    swapped = tmp_path / "swapped.nii"
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(voxels(), AFFINE, header), swapped)
    assert swapped.read_bytes()[:4] == (348).to_bytes(4, "big")
    for path in (second, swapped):
        np.testing.assert_array_equal(check_image(path, CASE).volume.data, voxels())


def test_header_scaling_is_applied(plain: Path) -> None:
    patch(plain, "scl_slope", 2.0)
    patch(plain, "scl_inter", -10.0)
    np.testing.assert_array_equal(check_image(plain, CASE).volume.data, 2.0 * voxels() - 10)


@pytest.mark.fault(1)
def test_a_gzip_file_cut_anywhere_is_truncated(zipped: Path, measured) -> None:
    whole = zipped.read_bytes()
    middle = range(60, len(whole) - 9, 23)
    lengths = [*range(2, 60), *middle, *range(len(whole) - 9, len(whole))]
    for length in lengths:
        zipped.write_bytes(whole[:length])
        assert refusal(zipped).code == "E_TRUNCATED", length
    measured(f".nii.gz cut at {len(lengths)} places")


@pytest.mark.fault(1)
def test_a_plain_file_cut_anywhere_is_truncated(plain: Path, measured) -> None:
    whole = plain.read_bytes()
    lengths = {1, 3, 4, 100, 347, 348, 351, 352, 353, len(whole) - 1}
    lengths |= set(range(2, len(whole), len(whole) // 50))
    for length in sorted(lengths):
        plain.write_bytes(whole[:length])
        assert refusal(plain).code == "E_TRUNCATED", length
    measured(f".nii cut at {len(lengths)} places")


@pytest.mark.fault(2)
def test_a_trailer_of_zeros_is_found(zipped: Path, measured) -> None:
    raw = zipped.read_bytes()
    for zeros in (4, 8):
        zipped.write_bytes(raw[:-8] + bytes(zeros) + raw[len(raw) - 8 + zeros :])
        assert refusal(zipped).code == "E_CHECKSUM"
    measured("checksum, and checksum and length, of zeros: E_CHECKSUM")


@pytest.mark.fault(2)
@pytest.mark.parametrize("place", [-8, -5, -4, -1])
def test_a_wrong_checksum_or_length_of_gzip_is_found(zipped: Path, place: int) -> None:
    raw = bytearray(zipped.read_bytes())
    raw[place] ^= 1
    zipped.write_bytes(raw)
    assert refusal(zipped).code == "E_CHECKSUM"


@pytest.mark.fault(2)
def test_damage_inside_compressed_data_is_never_passed_on(zipped: Path) -> None:
    whole, outcomes = zipped.read_bytes(), []
    for place in range(50, len(whole) - 8, 31):
        raw = bytearray(whole)
        raw[place] ^= 0x10
        zipped.write_bytes(raw)
        outcomes.append(outcome(zipped))
        if outcomes[-1] == "good":  # bits that deflate does not use
            np.testing.assert_array_equal(check_image(zipped, CASE).volume.data, voxels())
    refused = {"E_CHECKSUM", "E_TRUNCATED", "E_MAGIC", "E_HEADER"}
    assert set(outcomes) <= refused | {"good"}
    assert outcomes.count("good") < 0.1 * len(outcomes)


@pytest.mark.fault(2)
def test_rubbish_after_compressed_data_is_refused(zipped: Path) -> None:
    zipped.write_bytes(zipped.read_bytes() + b"rubbish")
    assert refusal(zipped).code == "E_CHECKSUM"


@pytest.mark.fault(4)
def test_an_empty_file_is_refused(tmp_path: Path, measured) -> None:
    for ending in ("nii", "nii.gz"):
        path = tmp_path / f"{NAME}.{ending}"
        path.touch()
        assert refusal(path).code == "E_EMPTY"
    measured("empty .nii and .nii.gz: E_EMPTY")


@pytest.mark.fault(4)
@pytest.mark.parametrize("length", [5, 347, 348, 5000])
def test_text_is_no_scan(tmp_path: Path, length: int, measured) -> None:
    text = (b"<html>not found</html> " * 300)[:length]
    (tmp_path / "a.nii").write_bytes(text)
    (tmp_path / "b.nii.gz").write_bytes(text)
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(text))
    for name in ("a.nii", "b.nii.gz", "c.nii.gz"):
        assert refusal(tmp_path / name).code == "E_MAGIC", name
    measured(f"{length} bytes of text under 3 names: E_MAGIC")


@pytest.mark.fault(4)
def test_names_that_lie_about_compression_are_refused(plain: Path, zipped: Path) -> None:
    a, b = plain.read_bytes(), zipped.read_bytes()
    plain.write_bytes(b)
    zipped.write_bytes(a)
    assert refusal(plain).code == "E_MAGIC"
    assert refusal(zipped).code == "E_MAGIC"


@pytest.mark.fault(4)
@pytest.mark.parametrize("magic", [b"", b"ni1", b"n+9", b"n+1!"])
def test_a_wrong_magic_is_refused(plain: Path, magic: bytes, measured) -> None:
    assert refusal(patch(plain, "magic", magic)).code == "E_MAGIC"
    measured(f"magic {magic!r}: E_MAGIC")


@pytest.mark.fault(5)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused_and_counted(
    tmp_path: Path, value: float, measured
) -> None:
    data = voxels(kind=np.float32)
    data[0, 0, 0] = data[3, 3, 3] = value
    error = refusal(write(tmp_path / f"{NAME}.nii.gz", data))
    assert error.code == "E_NAN"
    assert error.what.endswith(": 2")
    measured(f"2 voxels of {value}: {error.code} {error.what}")


@pytest.mark.fault(5)
@pytest.mark.parametrize("value", [1e300, 3.4028235e38, -3.4028235e38])
def test_voxels_beyond_or_at_the_end_of_float32_are_refused(tmp_path: Path, value: float) -> None:
    data = voxels(kind=np.float64)
    data[0, 0, 0] = value
    assert refusal(write(tmp_path / f"{NAME}.nii.gz", data)).code == "E_NAN"


@pytest.mark.fault(6)
def test_a_constant_scan_is_refused(tmp_path: Path) -> None:
    assert (
        refusal(write(tmp_path / f"{NAME}.nii", np.full(SHAPE, 7, np.int16))).code == "E_CONSTANT"
    )


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "shape", [(8,), (8, 9), (8, 9, 1), (8, 1, 9), (5, 6, 7, 2), (5, 6, 7, 1, 3), (5, 6, 7, 1, 1)]
)
def test_what_is_not_one_volume_is_refused(
    tmp_path: Path, shape: tuple[int, ...], measured
) -> None:
    assert refusal(write(tmp_path / f"{NAME}.nii", voxels(shape))).code == "E_DIMENSIONS"
    measured(f"shape {shape}: E_DIMENSIONS")


@pytest.mark.fault(7)
def test_a_single_fourth_axis_is_dropped(tmp_path: Path) -> None:
    checked = check_image(write(tmp_path / f"{NAME}.nii", voxels((*SHAPE, 1))), CASE).volume
    assert checked.shape == checked.data.shape == SHAPE


@pytest.mark.fault(8)
def test_complex_numbers_and_colours_are_refused(tmp_path: Path) -> None:
    colours = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for data in (voxels().astype(np.complex64), colours):
        assert refusal(write(tmp_path / f"{NAME}.nii", data)).code == "E_DTYPE"


@pytest.mark.fault(10)
@pytest.mark.parametrize("sform", [0, 1])
@pytest.mark.parametrize("spacing", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_impossible_spacing_is_refused_even_beside_a_good_affine(
    plain: Path, axis: int, spacing: float, sform: int
) -> None:
    patch(plain, "sform_code", sform)
    error = refusal(patch(plain, "pixdim", spacing, 1 + axis))
    assert error.code == "E_SPACING"
    assert error.what.endswith(f"along {'XYZ'[axis]}")


@pytest.mark.parametrize("factor", [1e-5, 1e5])
def test_a_spacing_of_micrometres_or_metres_is_refused(tmp_path: Path, factor: float) -> None:
    affine = AFFINE @ np.diag([factor, factor, factor, 1])
    assert refusal(write(tmp_path / f"{NAME}.nii", voxels(), affine)).code == "E_SPACING"


@pytest.mark.fault(9)
def test_a_sheared_affine_is_refused_and_a_rotated_one_is_not(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.1
    assert refusal(write(tmp_path / f"{NAME}.nii", voxels(), sheared)).code == "E_AFFINE"
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    checked = check_image(write(tmp_path / f"{NAME}.nii", voxels(), turn @ AFFINE), CASE).volume
    np.testing.assert_allclose(checked.spacing, (2, 1.5, 3), rtol=1e-6)


@pytest.mark.fault(9)
def test_a_singular_affine_is_refused_and_a_rounded_one_is_not(tmp_path: Path, measured) -> None:
    codes = {}
    for shear in (0.0, 0.8e-4, 1.2e-4, 1.0):  # cosine between the first two axes; 1 is parallel
        affine = np.diag([2.0, 2, 3, 1])
        affine[:2, 1] = 2 * shear, 2 * np.sqrt(1 - shear**2)
        raw = bytearray(nibabel.Nifti1Image(voxels(), np.diag([2.0, 2, 3, 1])).to_bytes())
        header = np.frombuffer(raw, nibabel.Nifti1Header().structarr.dtype, 1)
        header["qform_code"] = 0
        header["srow_x"][0], header["srow_y"][0] = affine[0], affine[1]
        path = tmp_path / "scan.nii"
        path.write_bytes(raw)
        codes[shear] = outcome(path)
    assert codes == {0.0: "good", 0.8e-4: "good", 1.2e-4: "E_AFFINE", 1.0: "E_AFFINE"}
    measured(f"cosines of axes, and what became of the scan: {codes}")


@pytest.mark.fault(1)
def test_a_nifti_2_file_cut_anywhere_is_truncated(tmp_path, measured) -> None:
    whole = nibabel.Nifti2Image(voxels(), AFFINE).to_bytes()
    path, codes = tmp_path / f"{NAME}.nii", set()
    places = [*range(1, 550, 9), len(whole) // 2, len(whole) - 1]
    for end in places:
        path.write_bytes(whole[:end])
        codes.add(refusal(path).code)
    assert codes == {"E_TRUNCATED"}
    measured(f"NIfTI-2 cut at {len(places)} places: E_TRUNCATED")


@pytest.mark.fault(1)
def test_a_scan_that_was_cut_off_before_it_was_compressed_is_refused(tmp_path, measured) -> None:
    whole = nibabel.Nifti1Image(voxels(), AFFINE).to_bytes()
    path, codes = tmp_path / f"{NAME}.nii.gz", set()
    places = [*range(1, len(whole), len(whole) // 40), len(whole) - 1]
    for end in places:
        path.write_bytes(gzip.compress(whole[:end]))
        codes.add(refusal(path).code)
    assert codes == {"E_TRUNCATED"}
    measured(f".nii cut at {len(places)} places, then compressed: E_TRUNCATED")


@pytest.mark.fault(9)
@pytest.mark.parametrize(("cosine", "code"), [(0.0005, ""), (0.002, "E_AFFINE"), (0.1, "E_AFFINE")])
def test_a_shear_that_the_q_form_does_not_have_is_refused(tmp_path: Path, cosine, code) -> None:
    image = nibabel.Nifti1Image(voxels(), np.diag([2.0, 2, 2, 1]))  # writes both forms
    sheared = np.diag([2.0, 2, 2, 1])
    sheared[:2, 1] = 2 * cosine, 2 * np.sqrt(1 - cosine**2)
    image.header.set_sform(sheared, 1)
    image.header.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    path = tmp_path / f"{NAME}.nii"
    path.write_bytes(nibabel.Nifti1Image(voxels(), None, image.header).to_bytes())
    if not code:
        np.testing.assert_allclose(check_image(path, CASE).volume.affine, sheared, atol=1e-6)
        return
    assert refusal(path).code == code


@pytest.mark.fault(9)
@pytest.mark.parametrize(("far", "code"), [(0.9e6, ""), (1.1e6, "E_AFFINE"), (1e30, "E_AFFINE")])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_scan_that_lies_a_kilometre_away_is_refused(tmp_path, far, code, sign, measured) -> None:
    affine = np.diag([2.0, 2, 2, 1])
    affine[1, 3] = sign * far
    path = write(tmp_path / f"{NAME}.nii", voxels(), affine)
    if not code:
        assert check_image(path, CASE).volume.affine[1, 3] == np.float32(sign * far)
        return
    assert refusal(path).code == code
    measured(f"{sign * far / 1e6:g} km away: {code}")


@pytest.mark.fault(13)
@pytest.mark.parametrize("slope", [1e38, np.inf, -np.inf, 1e-17, 1.2e-38, 1e-45])
def test_a_slope_that_overflows_or_is_no_number_is_refused(plain: Path, slope, measured) -> None:
    assert refusal(patch(plain, "scl_slope", slope)).code == "E_HEADER"
    measured(f"slope {slope:g}")


@pytest.mark.fault(9)
def test_an_affine_that_is_not_finite_is_refused(plain: Path) -> None:
    patch(plain, "sform_code", 1)
    assert refusal(patch(plain, "srow_x", np.nan, 3)).code == "E_AFFINE"


@pytest.mark.fault(9)
def test_an_impossible_quaternion_is_refused(plain: Path) -> None:
    patch(plain, "sform_code", 0)
    patch(plain, "qform_code", 1)
    for field in ("quatern_b", "quatern_c", "quatern_d"):
        patch(plain, field, 2.0)
    assert refusal(plain).code == "E_HEADER"


@pytest.mark.fault(12)
@pytest.mark.parametrize("size", [0, -1, -32768])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_axes_without_voxels_are_refused(plain: Path, axis: int, size: int, measured) -> None:
    assert refusal(patch(plain, "dim", size, axis)).code == "E_HEADER"
    measured(f"{size} voxels: E_HEADER")


@pytest.mark.fault(13)
@pytest.mark.fault(12)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vox_offset", np.nan),
        ("vox_offset", np.inf),
        ("vox_offset", -1.0),
        ("vox_offset", 1e30),
        ("datatype", 9999),
        ("scl_slope", np.inf),
        ("scl_inter", np.inf),
        ("scl_slope", 1e35),
    ],
)
def test_a_broken_header_is_refused(plain: Path, field: str, value: float, measured) -> None:
    assert refusal(patch(plain, field, value)).code == "E_HEADER"
    measured(f"{field} {value:g}: E_HEADER")


MEASURE = """
import sys
from pathlib import Path
from medgan.core.errors import DataError
from medgan.data.checks import check_image
import nibabel, nibabel.nifti2
codes = []
for path in sys.argv[1:]:
    try:
        check_image(Path(path), "c-1")
        codes.append("read")
    except DataError as error:
        codes.append(error.code)
status = Path("/proc/self/status").read_text()
peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
print(*codes, int(peak) * 1024)
"""


def in_a_child(*paths: Path) -> tuple[str, int]:
    """What becomes of files in a process of its own, and the most memory that this one took."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    *codes, peak = run.stdout.split()
    return " ".join(codes), int(peak)


LIMIT = 300 * 10**6
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def zeros(path: Path, shape: tuple[int, ...], kind: int, bits: int) -> Path:
    """A gzip file of a header and that many zeros and ones, as small as it gets."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header["datatype"], header["bitpix"], header["vox_offset"] = kind, bits, 352
    header["sform_code"], header["srow_x"][0], header["srow_y"][1], header["srow_z"][2] = 1, 1, 1, 1
    header["magic"] = b"n+1"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header.binaryblock + bytes(4) + b"\1\1")
        left = int(np.prod(shape)) * bits // 8 - 2
        block = bytes(2**20)
        for _ in range(left // 2**20):
            file.write(block)
        file.write(bytes(left % 2**20))
    return path


@linux
@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "shape", [(512, 512, 1024), pytest.param((1024, 1024, 1023), marks=pytest.mark.slow)]
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, shape, measured) -> None:
    bomb = zeros(tmp_path / f"{NAME}.nii.gz", shape, 2, 8)
    code, peak = in_a_child(bomb)
    assert code == "E_SIZE"
    assert peak < LIMIT
    size, whole = bomb.stat().st_size / 1e6, 4 * np.prod(shape) / 2**30
    measured(f"{size:.1f} MB that take {whole:.0f} GiB: refused within {peak / 1e6:.0f} MB")


@linux
@pytest.mark.fault(11)
def test_the_largest_image_that_may_unpack_so_far_takes_little(tmp_path: Path, measured) -> None:
    bomb = zeros(tmp_path / "small.nii.gz", (512, 512, 95), 2, 8)
    code, peak = in_a_child(bomb)
    assert code == "read"
    assert peak < LIMIT
    measured(f"{bomb.stat().st_size / 1e3:.0f} KB of honest zeros: read within {peak / 1e6:.0f} MB")


@linux
@pytest.mark.fault(11)
def test_a_header_that_announces_a_bomb_is_refused_without_memory(plain: Path, measured) -> None:
    for axis in (1, 2, 3):
        patch(plain, "dim", 32767, axis)
    Path(f"{plain}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    code, peak = in_a_child(plain, Path(f"{plain}.gz"))
    assert code == "E_SIZE E_SIZE"
    assert peak < LIMIT
    measured(f"a header that announces 128 TiB: refused within {peak / 1e6:.0f} MB")


@pytest.fixture
def unpacked(monkeypatch) -> list[str]:
    """The scans that were unpacked."""
    done, unpack = [], nifti._unpack

    def counting(raw: bytes, zipped: bool, expected: int, case: str) -> bytes:
        done.append(case)
        return unpack(raw, zipped, expected, case)

    monkeypatch.setattr(nifti, "_unpack", counting)
    return done


def test_a_file_that_cannot_hold_what_it_announces_is_truncated_unread(
    plain: Path, unpacked: list[str]
) -> None:
    zipped = Path(f"{plain}.gz")
    patch(plain, "dim", 32000, 1)
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, zipped):
        assert refusal(path).code == "E_TRUNCATED"
    assert unpacked == []
    patch(plain, "dim", 7, 1)  # a little more than there is, which shows at its end
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert refusal(zipped).code == "E_TRUNCATED"
    assert unpacked == [CASE]


def test_a_label_map_may_unpack_a_thousandfold_on_the_grid_of_its_image(
    tmp_path: Path, unpacked: list[str]
) -> None:
    label = zeros(tmp_path / "label.nii.gz", (512, 512, 110), 2, 8)
    grid = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (512, 512, 110), (0, 0, 0))
    read = check_label(label, CASE, Volume(grid, np.eye(4)))
    assert read.volume.data.sum() == 2
    assert read.volume.data.nbytes > 250 * label.stat().st_size
    assert refusal(label).code == "E_SIZE"
    smaller = Volume(grid[:, :, 1:], np.eye(4))
    assert refused_label(label, smaller) == "E_LABEL_GRID"
    assert len(unpacked) == 1  # the label map that fits its image


def test_voxels_that_fit_the_file_but_not_as_float32_are_refused(plain: Path) -> None:
    for axis, size in enumerate((2048, 1024, 1024), start=1):
        patch(plain, "dim", size, axis)
    patch(plain, "datatype", 2)
    patch(plain, "bitpix", 8)
    assert 2048 * 1024 * 1024 < MAX_BYTES
    assert refusal(plain).code == "E_SIZE"


@linux
@pytest.mark.fault(11)
def test_a_gzip_bomb_behind_good_voxels_is_refused_without_memory(plain: Path, measured) -> None:
    bomb = Path(f"{plain}.gz")
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(plain.read_bytes())
        for _ in range(256):
            file.write(bytes(2**20))
    code, peak = in_a_child(bomb)
    assert code == "E_SIZE"
    assert peak < LIMIT
    measured(f"256 MiB of zeros behind a good scan: refused within {peak / 1e6:.0f} MB")


@pytest.mark.fault(11)
def test_a_huge_file_is_refused_unread(plain: Path) -> None:
    os.truncate(plain, 2 * MAX_BYTES)  # sparse: takes no room on the disk
    start = time.perf_counter()
    assert refusal(plain).code == "E_SIZE"
    assert time.perf_counter() - start < 1


@pytest.mark.fault(19)
def test_what_is_no_plain_file_is_refused_unread(tmp_path: Path) -> None:
    pipe = tmp_path / f"{NAME}.nii"
    os.mkfifo(pipe)
    (tmp_path / "folder.nii").mkdir()
    for path in (pipe, tmp_path / "folder.nii", tmp_path / "missing.nii"):
        assert refusal(path).code == "E_UNREADABLE"


@pytest.mark.fault(19)
def test_a_file_without_the_right_to_read_is_refused(plain: Path, measured) -> None:
    with open_folder() as folder:
        shut = Path(shutil.copy(plain, folder / f"{NAME}.nii"))
        shut.chmod(0)
        with without_rights():
            assert refusal(shut).code == "E_UNREADABLE"
    measured("a file that nobody may read: E_UNREADABLE")


def refused_label(path: Path, image: Volume) -> str:
    with pytest.raises(DataError) as caught:
        check_label(path, CASE, image)
    assert NAME not in str(caught.value)
    return caught.value.code


def test_a_label_map_must_lie_on_the_grid_of_its_image(tmp_path: Path, plain: Path) -> None:
    image = check_image(plain, CASE).volume
    path, label = tmp_path / f"{NAME}_seg.nii", (voxels() % 3).astype(np.uint8)
    np.testing.assert_array_equal(check_label(write(path, label), CASE, image).volume.data, label)
    moved = AFFINE.copy()
    moved[:3, 3] += 1
    assert refused_label(write(path, label, moved), image) == "E_LABEL_GRID"
    assert refused_label(write(path, label[:, ::-1][:-1]), image) == "E_LABEL_GRID"
    mirrored = AFFINE @ np.diag([-1, 1, 1, 1])
    assert refused_label(write(path, label, mirrored), image) == "E_LABEL_GRID"
    nearly = AFFINE.copy()
    nearly[:3, 3] += 0.01
    check_label(write(path, label, nearly), CASE, image)


def test_an_empty_label_map_is_a_label_map(tmp_path: Path, plain: Path) -> None:
    path = write(tmp_path / f"{NAME}_seg.nii", np.zeros(SHAPE, np.uint8))
    assert not check_label(path, CASE, check_image(plain, CASE).volume).volume.data.any()


@pytest.mark.parametrize("error", [1.53e-5, -0.0039, 0.009])
def test_label_values_with_rounding_errors_are_rounded_and_noted(
    tmp_path: Path, plain: Path, error: float
) -> None:
    label = (voxels() % 3).astype(np.float32)
    near = np.where(label > 0, label + np.float32(error), label)
    file = check_label(
        write(tmp_path / f"{NAME}_seg.nii", near), CASE, check_image(plain, CASE).volume
    )
    np.testing.assert_array_equal(file.volume.data, label)
    (note,) = file.notes
    assert str(note).startswith(f"W_LABEL_VALUE {CASE}: ")


@pytest.mark.parametrize("value", [0.5, 1.011, -1.0, 70000.0, np.nan, np.inf])
def test_label_values_are_whole_numbers_from_0(tmp_path: Path, plain: Path, value: float) -> None:
    label = np.ones(SHAPE, np.float32)
    label[1, 1, 1] = value
    path = write(tmp_path / f"{NAME}_seg.nii", label)
    assert refused_label(path, check_image(plain, CASE).volume) == "E_LABEL_VALUE"


@pytest.mark.fault(14)
def test_random_damage_to_a_header_is_refused_or_harmless(plain: Path) -> None:
    rng, whole = np.random.default_rng(0), plain.read_bytes()
    outcomes = set()
    for number in range(1200):
        raw = bytearray(whole)
        for place in rng.integers(0, 352, rng.integers(1, 6)):
            raw[place] = rng.choice([rng.integers(256), 0, 127, 128, 255])
        plain.write_bytes(raw)
        start = time.process_time()
        outcomes.add(result := outcome(plain))
        assert time.process_time() - start < 1, number
        if result == "good":
            checked, again = check_image(plain, CASE).volume, Volume.load(plain)
            np.testing.assert_array_equal(again.data, checked.data)
            np.testing.assert_array_equal(again.affine, checked.affine)
    assert "the error holds the name" not in outcomes
    assert {"good", "E_HEADER", "E_MAGIC", "E_SPACING", "E_TRUNCATED"} <= outcomes
