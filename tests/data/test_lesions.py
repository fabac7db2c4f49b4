import numpy as np
import pytest
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.data.lesions import CONTROL, FAMILIES, _site, plant


def tissue(seed: int = 0) -> np.ndarray:
    """A textured ball in air."""
    rng = np.random.default_rng(seed)
    grid = np.indices((32, 40, 32)) - np.array([16, 20, 16])[:, None, None, None]
    texture = ndimage.gaussian_filter(rng.standard_normal((32, 40, 32)), 1.5)
    volume = 0.35 * texture / texture.std() + 0.1
    volume[np.linalg.norm(grid, axis=0) > 15] = -1
    return volume.clip(-1, 1).astype(np.float32)


def planted(family, radius=4.0, strength=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return plant(tissue(), tissue(1), family, radius, strength, rng)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("radius", [3.0, 6.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lesion_changes_its_own_voxels_and_no_others(family, radius, strength):
    made = planted(family, radius, strength)
    changed = np.abs(made.volume - tissue())
    away = np.linalg.norm(
        np.indices(changed.shape) - np.array(made.centre)[:, None, None, None], axis=0
    )
    assert changed[away > 1.6 * radius].max() == 0 or family == "bias"
    assert made.truth.sum() > 4 / 3 * np.pi * radius**3 / 9
    assert away[made.truth].max() < 1.6 * radius
    assert changed[made.truth].mean() > 0.05
    assert np.abs(made.volume).max() <= 1
    assert made.volume.dtype == np.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_a_strong_lesion_changes_more_than_a_faint_one(family):
    faint, strong = (np.abs(planted(family, strength=s).volume - tissue()) for s in (0.5, 1.0))
    assert strong.sum() > faint.sum()


def test_brighter_is_brighter_and_darker_darker():
    for family, sign in (("brighter", 1), ("darker", -1), ("missing", -1)):
        made = planted(family)
        assert (sign * (made.volume - tissue())[made.truth]).mean() > 0.2


def test_pushing_magnifies_the_centre_and_pulling_shrinks_it():
    """A bright dot in the centre takes more, or fewer, voxels."""
    sizes = {}
    for family in ("push", "pull"):
        x, y, z = planted(family, radius=6.0).centre
        dim = (0.3 * tissue()).astype(np.float32)
        dim[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = 1.0
        rng = np.random.default_rng(3)
        site = _site(dim, dim, -1.0, np.array([x, y, z]), 6.0, 1.0, rng)
        sizes[family] = (FAMILIES[family](site) > 0.9).sum()
    assert sizes["push"] > 27 > sizes["pull"]


def test_a_reflection_mirrors_left_and_right():
    made = planted("reflection", radius=6.0)
    x, y, z = made.centre
    before = tissue()
    assert made.volume[x + 2, y, z] == pytest.approx(before[x - 2, y, z], abs=1e-5)
    assert made.volume[x, y, z] == pytest.approx(before[x, y, z], abs=1e-5)


def test_foreign_tissue_is_that_of_the_donor():
    made = planted("foreign")
    x, y, z = made.centre
    assert made.volume[x, y, z] == pytest.approx(tissue(1)[x, y, z], abs=1e-6)


def test_a_control_changes_nothing():
    made = planted(CONTROL)
    assert np.array_equal(made.volume, tissue())
    assert not made.truth.any()


def test_lesions_are_a_function_of_the_seed_and_lie_in_tissue():
    assert np.array_equal(planted("shift", seed=5).volume, planted("shift", seed=5).volume)
    centres = {planted("brighter", seed=s).centre for s in range(8)}
    assert len(centres) == 8
    for x, y, z in centres:
        assert tissue()[x, y, z] > -0.9


def test_a_lesion_that_fits_nowhere_is_refused():
    air = np.full((16, 16, 16), -1, np.float32)
    with pytest.raises(DataError, match="E_LESION"):
        plant(air, air, "brighter", 3.0, 1.0, np.random.default_rng(0))
    with pytest.raises(DataError, match="E_LESION"):
        plant(tissue(), tissue(), "brighter", 20.0, 1.0, np.random.default_rng(0))
