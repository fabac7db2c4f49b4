import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medgan.core.config import DataConfig
from medgan.core.errors import ConfigError
from medgan.data.manifest import Case
from medgan.data.plan import _finest, _shape, plan


def case(
    folder: Path, affine: np.ndarray, shape: tuple[int, int, int], labels: tuple[int, ...] = ()
) -> Case:
    path = folder / f"{len(list(folder.iterdir()))}.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), affine), path)
    x, y, z = (float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    return Case(
        case=path.stem, subject=path.stem, images={"image": str(path)}, label=None,
        hashes={"image": ""}, covariates={}, label_sha256=None, shape=shape,
        spacing=(x, y, z), labels=labels, orientation="".join(nibabel.aff2axcodes(affine)),
    )  # fmt: skip


def config(**values) -> DataConfig:
    return DataConfig(**values)


def test_scans_that_fit_the_budget_keep_their_spacing(tmp_path: Path) -> None:
    cases = [case(tmp_path, np.diag([2.0, 2, 2, 1]), (32, 48, 32))] * 3
    planned = plan(config(), cases)
    assert planned.spacing == (2.0, 2.0, 2.0)
    assert planned.shape == (32, 48, 32)


def test_axes_are_those_of_the_world_not_of_the_file(tmp_path: Path) -> None:
    affine = np.array([[0, 0, -2.0, 9], [2, 0, 0, 9], [0, -2, 0, 9], [0, 0, 0, 1]])
    planned = plan(config(), [case(tmp_path, affine, (16, 32, 48))])
    assert planned.shape == (48, 16, 32)  # stored along A, S, R


def test_what_is_set_is_kept(tmp_path: Path) -> None:
    cases = [case(tmp_path, np.diag([1.0, 1, 1, 1]), (64, 64, 64), (2, 5))]
    values = {"spacing": (4.0, 3.0, 2.0), "shape": (16, 32, 48), "labels": (1,), "intensity": "ct"}
    planned = plan(config(**values), cases)
    assert planned.model_dump() | values == planned.model_dump()
    assert plan(config(spacing=(4.0, 4.0, 2.0)), cases).shape == (16, 16, 32)
    assert plan(config(shape=(32, 32, 32)), cases).spacing == (2.0, 2.0, 2.0)


def test_a_set_shape_does_not_invent_resolution(tmp_path: Path) -> None:
    cases = [case(tmp_path, np.diag([3.0, 3, 3, 1]), (16, 16, 16))]
    assert plan(config(shape=(64, 64, 64)), cases).spacing == (3.0, 3.0, 3.0)


def test_labels_are_all_that_occur(tmp_path: Path) -> None:
    affine = np.eye(4)
    cases = [case(tmp_path, affine, (16, 16, 16), labels) for labels in [(3, 1), (), (7,)]]
    assert plan(config(), cases).labels == (1, 3, 7)


def test_a_setting_that_cannot_be_met_is_refused(tmp_path: Path) -> None:
    cases = [case(tmp_path, np.eye(4), (16, 16, 16))]
    unchecked = config().model_copy(update={"shape": (10, 16, 16)})
    with pytest.raises(ConfigError, match=r"(?s)E_VALUE.*shape"):
        plan(unchecked, cases)


extents = st.tuples(*[st.floats(5, 600)] * 3)


@given(extents, st.floats(0.3, 6), st.integers(4096, 10**6))
@example((249.0, 249.0, 249.0), 1.47845, 4_096_000)  # rounding the spacing adds voxels
def test_the_voxel_budget_is_kept_and_nearly_used(
    extent: tuple[float, float, float], native: float, voxels: int
) -> None:
    spacing = _finest(np.array(extent), native, voxels)
    assert math.prod(_shape(np.array(extent), (spacing,) * 3)) <= voxels
    assert spacing >= native - 5e-4
    if spacing > native * 1.03:
        assert math.prod(_shape(np.array(extent), (spacing / 1.03,) * 3)) > voxels


@given(extents, st.floats(0.3, 6))
def test_a_grid_holds_nearly_all_of_the_view_in_steps_of_16(
    extent: tuple[float, float, float], spacing: float
) -> None:
    for size, length in zip(_shape(np.array(extent), (spacing,) * 3), extent, strict=True):
        assert size % 16 == 0
        assert size >= 16
        assert size * spacing >= 0.949 * length
        assert size == 16 or (size - 16) * spacing < 0.951 * length
