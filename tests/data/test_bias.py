import numpy as np
import pytest
from scipy import ndimage

from medgan.core.volume import Volume
from medgan.data.bias import without_bias
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render

MM = 3.0
AFFINE = np.diag([MM, MM, MM, 1.0])


@pytest.fixture(scope="module")
def head():
    rng = np.random.default_rng(1)
    image, labels = render(sample_head(rng, 30.0), (64, 76, 64), MM, rng)
    return image.astype(np.float32), ndimage.binary_dilation(labels > 0, iterations=2)


def shading(shape):
    """A smooth field between 0.6 and 1.9."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.exp(0.3 * x + 0.25 * y**2 - 0.15 * x * z).astype(np.float32)


def test_most_of_a_known_field_is_taken_off(head):
    image, mask = head
    field = shading(image.shape)
    plain = without_bias(Volume(image, AFFINE), mask)
    shaded = without_bias(Volume(image * field, AFFINE), mask)
    inside = mask & (image > 0)
    before, after = np.log(field)[inside], np.log(shaded / plain)[inside]
    assert after.std() < 0.2 * before.std()


def test_the_brightness_of_the_tissue_stays(head):
    image, mask = head
    corrected = without_bias(Volume(image, AFFINE), mask)
    inside = mask & (image > 0)
    assert np.log(corrected / image)[inside].mean() == pytest.approx(0, abs=1e-3)
    assert corrected.shape == image.shape
    assert corrected.dtype == np.float32


def test_values_without_a_logarithm_stay(head):
    image, mask = head
    image = np.where(mask, image, -3.0).astype(np.float32)
    corrected = without_bias(Volume(image, AFFINE), mask)
    assert (corrected[~mask] == -3).all()


def test_a_mask_without_tissue_changes_nothing(head):
    image, _ = head
    corrected = without_bias(Volume(image, AFFINE), np.zeros(image.shape, bool))
    assert (corrected == image).all()


def test_a_few_thin_slices_are_not_shrunk_to_nothing(head):
    image, mask = head
    middle = slice(image.shape[2] // 2, image.shape[2] // 2 + 3)
    slab = Volume(image[:, :, middle], np.diag([MM, MM, 1.0, 1.0]))
    corrected = without_bias(slab, mask[:, :, middle])
    assert np.isfinite(corrected).all()
    assert corrected.shape == slab.shape


def test_a_field_is_laid_back_where_it_was_sampled(monkeypatch):
    shape, middle = (66, 40, 40), 30.0
    whole = Volume(np.full(shape, 100.0, np.float32), np.eye(4))

    def valley(coarse, inside):
        x = coarse.GetOrigin()[0] + coarse.GetSpacing()[0] * np.arange(coarse.GetSize()[0])
        slopes = np.abs(x - middle)[:, None, None] / 10
        return np.broadcast_to(slopes, coarse.GetSize()).copy()

    monkeypatch.setattr("medgan.data.bias._log_field", valley)
    found = -np.log(without_bias(whole, np.ones(shape, bool)) / 100)[4:-4, 0, 0]
    wanted = np.abs(np.arange(shape[0]) - middle)[4:-4] / 10
    off = found - wanted
    assert np.median(np.abs(off - np.median(off))) < 0.01
    assert np.ptp(off) < 0.15  # the bottom of the valley is rounded between samples
