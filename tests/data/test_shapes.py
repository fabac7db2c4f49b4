import numpy as np
import pytest
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.data.shape_library import SHIPPED, LesionShape, read_shapes
from medgan.data.shapes import draw_contrast, placed_mask, plant_shape, plant_shapes
from medgan.data.tissue import clusters, tissue_of

SHAPES = read_shapes(SHIPPED)
FLUID, GREY, WHITE = -0.6, 0.0, 0.5


def brain(fluid: float = FLUID, grey: float = GREY, white: float = WHITE) -> np.ndarray:
    """White matter around fluid, inside grey matter, in air; 72 x 90 x 76 voxels of 2 mm."""
    axes = np.indices((80, 96, 80)) - np.array([40, 48, 40])[:, None, None, None]
    radius = np.linalg.norm(axes / np.array([36, 45, 38])[:, None, None, None], axis=0)
    volume = np.select([radius < 0.3, radius < 0.8, radius < 1], [fluid, white, grey], -1.0)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(volume.shape), 1)
    return np.where(radius < 1, volume + 0.05 * noise / noise.std(), -1).astype(np.float32)


def ball(radius: int, centre: tuple[float, float, float] = (0.8, 0.5, 0.5)) -> LesionShape:
    grid = np.indices((2 * radius + 1,) * 3) - radius
    return LesionShape(np.linalg.norm(grid, axis=0) <= radius, centre)


def middle_of(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


def test_shipped_shapes_are_of_all_sizes():
    sizes = np.array([shape.millilitres for shape in SHAPES])
    assert len(SHAPES) == 200
    assert sizes.min() < 0.3
    assert sizes.max() > 100
    assert np.all(np.histogram(np.log(sizes), 5)[0] >= 20)
    assert all(-0.1 < share < 1.1 for shape in SHAPES for share in shape.centre)


@pytest.mark.parametrize("contrast", [-0.4, -1.5, 0.6])
@pytest.mark.parametrize("place", ["own", "random"])
def test_a_shape_changes_tissue_inside_it_and_nothing_else(contrast, place):
    volume = brain()
    made = plant_shape(volume, ball(6), contrast, np.random.default_rng(1), place)
    change = made.volume - volume
    assert made.truth.any()
    assert (np.sign(contrast) * change).min() >= 0
    assert (np.sign(contrast) * change[made.truth]).min() > 0.2 * abs(contrast) * (WHITE - GREY)
    assert change[volume < -0.9].max() == change[volume < -0.9].min() == 0
    around = ndimage.binary_dilation(made.truth, iterations=14)
    assert np.abs(change[~around]).max() == 0
    assert made.volume.dtype == np.float32
    assert np.abs(made.volume).max() <= 1


def test_a_dark_lesion_is_never_darker_than_fluid():
    volume = brain()
    made = plant_shape(volume, ball(7), -3.0, np.random.default_rng(0))
    fluid = tissue_of(volume).fluid
    assert made.volume[made.truth].min() >= fluid - 1e-5
    assert made.volume[made.truth].min() < fluid + 0.05


def test_fluid_is_found_where_it_is_brightest():
    volume = brain(fluid=0.8, grey=0.2, white=-0.3)
    found = tissue_of(volume)
    assert found.fluid == pytest.approx(0.8, abs=0.05)
    assert found.unit == pytest.approx(0.5, abs=0.06)
    assert found.share[volume < -0.2].min() > 0 or found.share[volume < -0.95].max() == 0
    assert found.share[40, 48, 40] < 0.2


def test_fluid_is_dark_where_both_ends_are_as_frequent():
    """As in crops around a hippocampus: white matter is not taken for fluid."""
    rng = np.random.default_rng(0)
    volume = rng.choice([-0.4, 0.1, 0.6], (24, 24, 24), p=[0.35, 0.3, 0.35]).astype(np.float32)
    assert tissue_of(volume).fluid == pytest.approx(-0.4, abs=0.02)


def test_a_shape_lies_at_its_own_place_or_mirrored():
    volume, sides = brain(), set()
    for seed in range(12):
        made = plant_shape(volume, ball(5, (0.8, 0.6, 0.4)), -1.0, np.random.default_rng(seed))
        x, y, z = middle_of(made.truth)
        assert (y - 3) / 90 == pytest.approx(0.6, abs=0.06)
        assert (z - 2) / 76 == pytest.approx(0.4, abs=0.06)
        side = (x - 4) / 72
        sides.add(side > 0.5)
        assert min(abs(side - 0.8), abs(side - 0.2)) < 0.06
    assert sides == {True, False}


def test_a_random_place_is_not_the_own_one():
    volume = brain()
    spots = [
        middle_of(plant_shape(volume, ball(4), -1.0, np.random.default_rng(n), "random").truth)
        for n in range(10)
    ]
    assert np.std(spots, axis=0).min() > 5


def test_lesions_along_the_ventricles_lie_beside_fluid_that_is_deep_inside():
    volume = brain()
    volume[38:42, 90:, :] = FLUID  # a sulcus, which is no ventricle
    from_fluid = np.asarray(ndimage.distance_transform_edt(np.hypot.reduce(
        (np.indices(volume.shape) - np.array([40, 48, 40])[:, None, None, None])
        / np.array([36, 45, 38])[:, None, None, None]) > 0.3))  # fmt: skip
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        made = plant_shape(volume, ball(3), -1.0, rng, "ventricles")
        x, y, z = made.centre
        found.append(from_fluid[x, y, z])
    assert max(found) < 0.08 * 72 + 3
    shell = np.where(volume < -0.5, volume, GREY).astype(np.float32)
    shell[28:52, 33:63, 28:52] = GREY  # no fluid inside
    assert len(tissue_of(shell).beside_ventricles) == len(tissue_of(shell).voxels)


def test_a_shape_scales_with_the_brain():
    volume = brain()
    half = volume[::2, ::2, ::2]
    sizes = []
    for scan in (volume, half):
        made = [plant_shape(scan, ball(6), -1.0, np.random.default_rng(n)) for n in range(30)]
        sizes.append(max(int(one.truth.sum()) for one in made))
    assert sizes[0] == pytest.approx(8 * sizes[1], rel=0.25)
    # The box of this brain is as large as that of MNI space: 2 mm voxels stay what they are.
    assert sizes[0] == pytest.approx(ball(6).mask.sum(), rel=0.25)


def test_some_lesions_change_only_some_clusters_of_intensity():
    """A large shape over grey and white matter: in some draws one of them stays."""
    volume = brain()
    white = ndimage.binary_erosion(volume > 0.3)
    kept = []
    for seed in range(16):
        made = plant_shape(volume, ball(12, (0.85, 0.5, 0.5)), -1.0, np.random.default_rng(seed))
        box = ndimage.binary_closing(made.truth, iterations=6)
        kept.append(float(made.truth[box & white].mean()) if (box & white).any() else 0.0)
    assert max(kept) > 0.9
    assert min(kept) < 0.5


def test_a_shape_that_fits_nowhere_is_refused_by_its_code():
    with pytest.raises(DataError, match="does not fit") as found:
        plant_shape(brain(), ball(6, (0.0, 0.0, 0.0)), -1.0, np.random.default_rng(0))
    assert found.value.code == "E_LESION"
    with pytest.raises(DataError, match="is empty"):
        tissue_of(np.full((8, 8, 8), -1, np.float32))


def test_the_same_seed_plants_the_same_lesion():
    first, again, other = (
        plant_shape(brain(), SHAPES[120], -1.0, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.volume, again.volume)
    assert not np.array_equal(first.truth, other.truth)


def test_contrasts_are_dark_or_bright_as_asked():
    rng = np.random.default_rng(0)
    dark = [draw_contrast(rng, bright=False) for _ in range(200)]
    either = [draw_contrast(rng) for _ in range(200)]
    assert min(dark) >= -2
    assert max(dark) <= -0.2
    assert min(either) < 0 < max(either)


def test_training_lesions_have_a_mask_where_the_scan_changed():
    volume = brain()
    found = [plant_shapes(volume, SHAPES, np.random.default_rng(seed)) for seed in range(12)]
    for changed, truth in found:
        assert np.abs(changed - volume)[truth].min() > 0.02
    counts = [ndimage.label(truth, np.ones((3, 3, 3)))[1] for _, truth in found]
    assert max(counts) > 8
    assert min(counts) < 8


def test_training_lesions_are_dark_or_bright_as_asked():
    volume = brain()
    for bright in (False, True):
        for seed in range(4):
            changed, truth = plant_shapes(
                volume, SHAPES, np.random.default_rng(seed), bright=bright
            )
            assert ((changed - volume)[truth] > 0).all() == bright
            assert ((changed - volume)[truth] < 0).all() == (not bright)


def test_clusters_are_those_of_a_mixture():
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.normal(at, 0.05, n) for at, n in ((-0.5, 500), (0, 2000), (0.6, 1000))]
    )
    centres, sizes = clusters(values, 3)
    np.testing.assert_allclose(centres, [-0.5, 0, 0.6], atol=0.02)
    np.testing.assert_allclose(sizes, [500, 2000, 1000], atol=20)


def test_a_placed_mask_lies_where_the_shape_is_planted():
    volume, shape = brain(), ball(6)
    tissue = tissue_of(volume)
    mask = placed_mask(shape, tissue, np.random.default_rng(3))
    made = plant_shape(volume, shape, -1.5, np.random.default_rng(3), tissue=tissue)
    assert made.truth[~mask].sum() == 0
    assert mask.sum() > 200
    assert tissue.share[mask].min() > 0.5
