"""Channels and labels of one scan, and scans in memory: grids, shapes and values at the limits."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.checks import check_label, check_scan, check_volume, require_one_grid, same_grid

CASE = "c-0123456789"
SHAPE = (6, 7, 8)
AFFINE = np.array([[2.0, 0, 0, -5], [0, 1.5, 0, 7], [0, 0, 3, 9], [0, 0, 0, 1]])
TENTH = 0.15
"""mm: of the shortest edge of a voxel."""


def voxels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)


def on(affine: np.ndarray = AFFINE, data: np.ndarray | None = None) -> Volume:
    return Volume(voxels() if data is None else data, affine)


def code(check, *given) -> str:
    with pytest.raises(DataError) as caught:
        check(*given)
    assert caught.value.where == CASE
    return caught.value.code


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grids_are_the_same_while_no_corner_is_a_tenth_of_a_voxel_away(axis: int) -> None:
    steps = SHAPE[axis] - 1  # of the corner that moves farthest
    for part, same in ((0.97, True), (1.03, False)):
        moved, stretched = AFFINE.copy(), AFFINE.copy()
        moved[axis, 3] += part * TENTH
        stretched[axis, axis] += part * TENTH / steps
        assert same_grid(on(moved), on()) is same
        assert same_grid(on(stretched), on()) is same
    assert not same_grid(on(data=voxels(SHAPE[::-1])), on())


def test_channels_on_one_grid_pass_and_the_one_that_does_not_is_named() -> None:
    moved = AFFINE.copy()
    moved[2, 3] += 1
    require_one_grid({"t1": on(), "t2": on(), "flair": on()}, CASE)
    with pytest.raises(DataError, match="flair and t1 lie on different grids") as caught:
        require_one_grid({"t1": on(), "t2": on(), "flair": on(moved)}, CASE)
    assert caught.value.code == "E_CHANNEL_GRID"


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 8, 2), (1, 7, 8), (6, 1, 8), (6, 7, 1)])
def test_a_scan_in_memory_is_a_volume(shape: tuple[int, ...]) -> None:
    assert code(check_volume, on(data=voxels(shape)), CASE) == "E_DIMENSIONS"


def test_a_scan_in_memory_is_checked_like_a_file() -> None:
    check_volume(on(), CASE)
    check_volume(on(data=voxels((2, 2, 2))), CASE)
    assert code(check_volume, on(data=np.ones(SHAPE, np.float32)), CASE) == "E_CONSTANT"
    assert code(check_volume, on(np.diag([2.0, 0, 3, 1])), CASE) == "E_SPACING"
    data = voxels()
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    with pytest.raises(DataError, match=r"beyond 1e\+30: 3") as caught:
        check_volume(on(data=data), CASE)
    assert caught.value.code == "E_NAN"


@pytest.mark.parametrize("sign", [1, -1])
def test_intensities_end_below_1e30(sign: int) -> None:
    data = voxels().astype(np.float64)
    data[0, 0, 0] = sign * np.nextafter(1e30, 0)
    check_volume(on(data=data), CASE)
    data[0, 0, 0] = sign * 1e30
    assert code(check_volume, on(data=data), CASE) == "E_NAN"


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, form: int = 1) -> Path:
    image = nibabel.Nifti1Image(data, affine)
    image.set_sform(affine, form)
    image.set_qform(affine, form)
    nibabel.save(image, path)
    return path


def test_labels_end_at_65535_and_whole_ones_are_taken_without_a_note(tmp_path: Path) -> None:
    values = np.zeros(SHAPE, np.float32)
    for last in (65535, 65536):
        values[1, 2, 3] = last
        path = write(tmp_path / "label.nii", values)
        if last == 65535:
            label = check_label(path, CASE, on())
            np.testing.assert_array_equal(label.volume.data, values)
            assert label.notes == ()
        else:
            assert code(check_label, path, CASE, on()) == "E_LABEL_VALUE"


def test_a_scan_has_its_channels_in_order_its_label_and_each_note_once(tmp_path: Path) -> None:
    first = write(tmp_path / "t1.nii", voxels(), np.diag([2.0, 1.5, 3, 1]), 0)
    second = write(tmp_path / "t2.nii", 2 * voxels(), np.diag([2.0, 1.5, 3, 1]), 0)
    grid = Volume.load(first).affine
    label = write(tmp_path / "label.nii", np.full(SHAPE, 1.001, np.float32), grid)
    scan = check_scan({"t2": second, "t1": first}, label, CASE)
    assert list(scan.images) == ["t2", "t1"]
    np.testing.assert_array_equal(scan.volumes[0].data, 2 * scan.volumes[1].data)
    assert scan.label is not None
    assert (scan.label.volume.data == 1).all()
    codes = [str(note).split()[0] for note in scan.notes]
    assert codes[-1] == "W_LABEL_VALUE"
    assert len(codes) == 2  # both channels lack an orientation

    alone = check_scan({"t1": first}, None, CASE)
    assert alone.label is None
    assert len(alone.notes) == 1
    grid[0, 3] += 1
    assert code(check_scan, {"t1": first}, write(label, voxels(), grid), CASE) == "E_LABEL_GRID"
