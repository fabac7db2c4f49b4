import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_fill_holes

from medgan.core.errors import DataError
from medgan.data.phantoms.data_set import LABELS
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render

SHAPE = (32, 36, 32)
SPACING = 6.0


def phantom(seed: int, age: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return render(sample_head(rng, age), SHAPE, SPACING, rng)


def test_ventricles_and_only_ventricles_grow_with_age() -> None:
    ages = np.linspace(20, 85, 16)
    labels = [phantom(i, float(age))[1] for i, age in enumerate(ages)]
    ventricles, cortex = ([(label == k).sum() for label in labels] for k in (1, 2))
    assert np.corrcoef(ages, ventricles)[0, 1] > 0.5
    assert np.corrcoef(ages, cortex)[0, 1] < -0.5
    assert 1.5 < np.mean(ventricles[-4:]) / np.mean(ventricles[:4]) < 3.5


@pytest.mark.parametrize("seed", range(4))
def test_tissues_are_nested(seed: int) -> None:
    image, label = phantom(seed, 20.0 + 20.0 * seed)
    assert set(np.unique(label)) == {0, *LABELS}
    assert (binary_dilation(label == 0) & (label == 1)).sum() < 0.05 * (label == 1).sum()
    # White matter hardly touches the outside of the brain: grey matter lies between.
    outside = ~binary_fill_holes(label > 0)
    rim = binary_dilation(outside) & (label > 0)
    assert (label[rim] == 2).mean() > 0.8
    assert not label[image < 0.02 * np.median(image[label == 3])].any()


@pytest.mark.parametrize("seed", range(4))
def test_intensities_rise_from_ventricles_over_grey_to_white_matter(seed: int) -> None:
    image, label = phantom(seed)
    ventricle, grey, white = (np.median(image[label == k]) for k in (1, 2, 3))
    assert ventricle < 0.8 * grey
    assert grey < 0.85 * white


def test_left_and_right_are_nearly_but_not_exactly_alike() -> None:
    label = np.mean([phantom(seed)[1] == 3 for seed in range(4)], axis=0)
    right_is_left = np.corrcoef(label.ravel(), label[::-1].ravel())[0, 1]
    assert 0.7 < right_is_left < 0.999


@pytest.mark.parametrize(("shape", "spacing"), [(SHAPE, SPACING), ((32, 40, 32), 3.5)])
def test_the_head_lies_inside_the_field_of_view(
    shape: tuple[int, int, int], spacing: float
) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        head = sample_head(rng, 50.0)
        image, label = render(head, shape, spacing, rng)
        border = np.ones(shape, bool)
        border[1:-1, 1:-1, 1:-1] = False
        assert image[border].max() < 7 * head.gain / head.snr
        assert image[~border].max() > 0.8 * head.gain
        assert label.any()


def test_a_field_of_view_too_small_for_a_head_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="E_VIEW"):
        render(sample_head(rng, 50.0), (16, 16, 16), 4.0, rng)
