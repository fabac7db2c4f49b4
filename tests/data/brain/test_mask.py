from types import SimpleNamespace

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.brain.mask import brain_mask, filled, largest
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render

MM = 3.0


@pytest.fixture(scope="module")
def head():
    """A phantom, and where its tissue of the brain is."""
    rng = np.random.default_rng(0)
    image, labels = render(sample_head(rng, 30.0), (64, 76, 64), MM, rng)
    affine = np.diag([MM, MM, MM, 1.0])
    affine[:3, 3] = -90.0, -120.0, -60.0
    return Volume(image.astype(np.float32), affine), ndimage.binary_fill_holes(labels > 0)


@pytest.fixture(scope="module")
def upright(head):
    return brain_mask(head[0], "c")


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_mask_holds_the_brain_and_not_the_head(head, upright):
    scan, brain = head
    assert (upright & brain).sum() > 0.99 * brain.sum()
    ml = upright.sum() * MM**3 / 1000
    assert 1200 < ml < 1800  # with the fluid around it
    scalp = scan.data > np.percentile(scan.data, 99.5)
    assert (upright & scalp).sum() < 0.05 * upright.sum()


@pytest.mark.slow
def test_the_order_of_a_files_axes_does_not_matter(head, upright):
    scan, _ = head
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("PSL"))
    affine = scan.affine @ inv_ornt_aff(turn, scan.data.shape)
    stored = Volume(np.ascontiguousarray(apply_orientation(scan.data, turn)), affine)
    mask = brain_mask(stored, "c")
    assert mask.shape == stored.data.shape
    assert dice(mask, apply_orientation(upright, turn)) > 0.995


@pytest.mark.parametrize("tilt", [(40.0, 0.0), pytest.param((0.0, 40.0), marks=pytest.mark.slow)])
def test_a_head_that_lies_tilted_by_40_degrees_is_found(head, upright, tilt):
    scan, _ = head
    turn = Rotation.from_euler("xy", tilt, degrees=True).as_matrix()
    shape = np.array([80, 80, 80])
    offset = (np.array(scan.data.shape) - 1) / 2 - turn @ ((shape - 1) / 2)
    lying = ndimage.affine_transform(scan.data, turn, offset, tuple(shape), order=1)
    expected = ndimage.affine_transform(
        upright.astype(np.float32), turn, offset, tuple(shape), order=1
    )
    found = brain_mask(Volume(lying, np.diag([MM, MM, MM, 1.0])), "c")
    assert dice(found, expected > 0.5) > 0.95


@pytest.mark.parametrize("scale", [0.6, 1.5])
def test_a_brain_of_an_implausible_volume_is_refused(head, upright, scale, monkeypatch):
    """What the networks outline is the same: only the size of the voxels is another."""
    scan, _ = head
    monkeypatch.setattr("medgan.data.brain.mask._locate", lambda *args: SimpleNamespace(doubt=0.0))
    monkeypatch.setattr("medgan.data.brain.mask._segment", lambda *args: upright)
    with pytest.raises(DataError) as refused:
        brain_mask(Volume(scan.data, scan.affine * [[scale], [scale], [scale], [1]]), "sub-1")
    assert refused.value.code == "E_BRAIN"
    assert "sub-1" in str(refused.value)
    assert "ml" in str(refused.value)


@pytest.mark.slow
def test_what_holds_no_head_is_refused(rng):
    noise = rng.normal(100, 10, (40, 40, 40)).astype(np.float32)
    with pytest.raises(DataError, match="E_BRAIN"):
        brain_mask(Volume(noise, np.diag([4.0, 4.0, 4.0, 1.0])), "c")


def test_the_largest_component_alone_is_kept():
    mask = np.zeros((8, 8, 8), bool)
    mask[:3, :3, :3] = mask[5:7, 5:7, 5:7] = True
    assert largest(mask).sum() == 27
    assert not largest(np.zeros((4, 4, 4), bool)).any()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.9])
def test_a_filled_mask_is_that_of_scipy(share):
    mask = np.random.default_rng(3).random((9, 11, 8)) < share
    mask[0], mask[:, :, -1] = False, False
    np.testing.assert_array_equal(filled(mask), ndimage.binary_fill_holes(mask))
    assert not filled(np.zeros((4, 5, 6), bool)).any()
    assert filled(np.ones((4, 5, 6), bool)).all()
