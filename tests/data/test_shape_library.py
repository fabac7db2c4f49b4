import numpy as np
import pytest

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.shape_library import BRAIN, LesionShape, all_sizes, read_shapes, save_shapes


def mask_file(path, low, high, spacing=2.0, axis=1):
    """A box of lesion between two corners in mm of MNI space, stored from right to left if -1."""
    affine = np.diag([spacing * axis, spacing, spacing, 1.0])
    affine[:3, 3] = [80 * -axis, -110, -80]
    data = np.zeros((int(160 / spacing), int(190 / spacing), int(165 / spacing)), np.uint8)
    corners = np.linalg.inv(affine) @ np.array([[*low, 1], [*high, 1]]).T
    start, stop = np.sort(corners[:3].T, axis=0).round().astype(int)
    data[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Volume(data, affine).save(path)


@pytest.mark.parametrize(("spacing", "axis"), [(2.0, 1), (2.0, -1), (1.0, 1), (4.0, 1)])
def test_a_mask_has_its_size_and_place_on_any_grid(tmp_path, spacing, axis):
    mask_file(tmp_path / "sub-1_mask.nii.gz", (24, 10, 4), (40, 34, 24), spacing, axis)
    (shape,) = read_shapes(tmp_path)
    assert shape.millilitres == pytest.approx(16 * 24 * 20 / 1000, rel=0.12)
    place = BRAIN[0] + np.array(shape.centre) * (BRAIN[1] - BRAIN[0])
    np.testing.assert_allclose(place, [32, 22, 14], atol=spacing)


def test_masks_are_those_of_the_subjects_that_are_named_and_not_empty(tmp_path):
    for name, size in (("sub-1", 8), ("sub-12", 16), ("sub-3", 0)):
        mask_file(tmp_path / name / "anat" / f"{name}_mask.nii.gz", (0, 0, 0), (size,) * 3)
    assert len(read_shapes(tmp_path)) == 2
    (only,) = read_shapes(tmp_path, ["sub-1", "sub-3"])
    assert only.mask.shape == (4, 4, 4)
    with pytest.raises(DataError) as found:
        read_shapes(tmp_path, ["sub-9"])
    assert found.value.code == "E_SHAPES"


def test_shapes_are_read_as_they_were_saved(tmp_path):
    rng = np.random.default_rng(0)
    shapes = [LesionShape(rng.random((n, 5, 2 * n)) > 0.5, (0.1 * n, 0.5, 0.75)) for n in (1, 3, 7)]
    save_shapes(tmp_path / "shapes.npz", shapes)
    for saved, read in zip(shapes, read_shapes(tmp_path / "shapes.npz"), strict=True):
        np.testing.assert_array_equal(saved.mask, read.mask)
        assert read.centre == pytest.approx(saved.centre)


def test_a_file_that_is_no_library_is_refused(tmp_path):
    (tmp_path / "notes.npz").write_text("notes")
    np.savez(tmp_path / "other.npz", sizes=np.ones((1, 3)))
    for name in ("notes.npz", "other.npz"):
        with pytest.raises(DataError) as found:
            read_shapes(tmp_path / name)
        assert found.value.code == "E_SHAPES"
        assert str(tmp_path) not in str(found.value)


def test_all_sizes_takes_large_ones_though_small_ones_are_many():
    shapes = [LesionShape(np.ones((n, 1, 1), bool), (0.0, 0.0, 0.0)) for n in [*range(1, 40)] * 5]
    shapes += [LesionShape(np.ones((n, 10, 10), bool), (0.0, 0.0, 0.0)) for n in range(1, 40)]
    chosen = [int(shape.mask.sum()) for shape in all_sizes(shapes, 20)]
    assert chosen == sorted(chosen)
    assert len(chosen) == 20
    assert sum(size > 100 for size in chosen) >= 8
    assert len(all_sizes(shapes, 10**4)) == len(shapes)
