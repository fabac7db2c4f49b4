"""The grid beside MONAI's transforms, which it gives the same numbers as."""

import copy
import itertools
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan.core.config import Preprocessing
from medgan.data.grid import Grid


class MonaiGrid:
    """To the model's grid and back by MONAI."""

    def __init__(self, preprocessing: Preprocessing, labels: bool) -> None:
        from monai.transforms.croppad.array import ResizeWithPadOrCrop
        from monai.transforms.spatial.array import Orientation, Spacing

        self.spacing, self.labels = preprocessing.spacing, labels
        mode, value = ("nearest", 0.0) if labels else ("bilinear", -1.0)
        self.orient = Orientation(axcodes="RAS", labels=None)
        self.resample = Spacing(preprocessing.spacing, mode=mode, padding_mode="border")
        self.crop = ResizeWithPadOrCrop(preprocessing.shape, value=value)

    def forward(self, data: np.ndarray, affine: np.ndarray):
        from monai.data.meta_tensor import MetaTensor
        from monai.transforms.intensity.array import GaussianSmooth

        oriented = self.orient(MetaTensor(torch.from_numpy(data), affine=torch.as_tensor(affine)))
        oriented = oriented.contiguous()
        spacing = np.linalg.norm(np.asarray(oriented.affine)[:3, :3], axis=0).round(5)
        oriented.affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
        sigma = np.maximum(0, (np.asarray(self.spacing) / spacing - 1) / 2)
        if sigma.any() and not self.labels:
            oriented = GaussianSmooth(sigma=tuple(sigma.clip(1e-6)))(oriented)
        return self.crop(self.resample(oriented))

    def back(self, data: np.ndarray, forward, outside: float) -> np.ndarray:
        from monai.data.meta_tensor import MetaTensor

        value = MetaTensor(torch.from_numpy(data)[None] - outside, meta=forward.meta)
        value.applied_operations = copy.deepcopy(forward.applied_operations)
        for transform in (self.crop, self.resample, self.orient):
            value = transform.inverse(value)
        return np.asarray(value)[0] + outside


def affine_of(order, signs, spacing) -> np.ndarray:
    """Of voxels with their axes in this order, along or against R, A and S."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(order)] * np.asarray(signs) * np.asarray(spacing)
    affine[:3, 3] = (-12, 7, 30)
    return affine


edges = st.tuples(*[st.integers(3, 36)] * 3)
millimetres = st.tuples(*[st.sampled_from([0.7, 1.0, 1.0004, 1.3, 2.0, 3.1])] * 3)


@settings(max_examples=60, deadline=None)
@given(
    shape=edges,
    spacing=millimetres,
    wanted=millimetres,
    target=st.tuples(*[st.sampled_from([16, 32])] * 3),
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    tilt=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 99),
)
def test_images_go_there_and_back_as_by_monai(
    shape, spacing, wanted, target, order, signs, tilt, seed
):
    logging.getLogger("monai").setLevel(logging.ERROR)
    rng = np.random.default_rng(seed)
    preprocessing = Preprocessing(spacing=wanted, shape=target)
    data = rng.normal(size=(2, *shape)).astype(np.float32)
    turn = nib.eulerangles.euler2mat(tilt, -tilt, tilt)
    affine = affine_of(order, signs, spacing)
    affine[:3, :3] = turn @ affine[:3, :3]
    grid, other = Grid(preprocessing), MonaiGrid(preprocessing, labels=False)
    resampled, record = grid.resample(data, affine)
    found, expected = grid.crop(resampled), other.forward(data, affine)
    assert found.dtype == np.float32
    assert np.allclose(found, expected.numpy(), atol=2e-5)
    score_map = rng.normal(size=target).astype(np.float32)
    native = grid.back(score_map, record, -7.0)
    assert native.shape == shape
    assert np.allclose(native, other.back(score_map, expected, -7.0), atol=2e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_labels_keep_their_values_as_by_monai(order, rng):
    # Spacings at which no voxel lies half-way between two, where rounding decides.
    preprocessing = Preprocessing(spacing=(1.0, 1.3, 0.9), shape=(16, 32, 16))
    data = rng.integers(0, 5, (1, 21, 24, 9)).astype(np.float32)
    affine = affine_of(order, (1, -1, 1), (1.1, 0.83, 2.31))
    grid, other = Grid(preprocessing, labels=True), MonaiGrid(preprocessing, labels=True)
    resampled, record = grid.resample(data, affine)
    found = grid.crop(resampled)
    assert np.array_equal(found, other.forward(data, affine).numpy())
    back = grid.back(found[0], record, 0.0)
    assert back.shape == data.shape[1:]
    assert set(np.unique(back)) <= set(range(5))


def test_what_is_on_the_grid_already_is_not_touched(rng):
    data = rng.normal(size=(1, 16, 32, 16)).astype(np.float32)
    grid = Grid(Preprocessing(spacing=(1, 1, 1), shape=(16, 32, 16)))
    resampled, record = grid.resample(data, np.eye(4))
    assert np.array_equal(grid.crop(resampled), data)
    assert np.array_equal(grid.back(data[0], record, 0.0), data[0])
