import resource
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.ndimage import center_of_mass

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.checks import check_image
from medgan.data.intensities import _say_that_it_looks_like_ct, intensity_scale
from medgan.data.prepare import Preparation

ORIENTATIONS = [
    np.array([(axis, flip) for axis, flip in zip(order, flips, strict=True)])
    for order, flips in product(permutations(range(3)), product((1, -1), repeat=3))
]
few = settings(deadline=None, max_examples=25)

spacings = st.tuples(*[st.sampled_from([0.8, 0.9375, 1.0, 1.3, 2.0, 3.3])] * 3)
shapes = st.tuples(*[st.integers(5, 24)] * 3)
seeds = st.integers(0, 999)


def setup(spacing=(1.0, 1.0, 1.0), shape=(16, 16, 16), **options) -> Preprocessing:
    return Preprocessing(spacing=spacing, shape=shape, **options)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    turn = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        one = np.eye(4)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one[i, i] = one[j, j] = np.cos(angle)
        one[i, j], one[j, i] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    return turn


@st.composite
def worlds(draw) -> np.ndarray:
    """Affines in RAS+ order: a spacing, a translation, a rotation under 20 degrees an axis."""
    affine = np.diag([*draw(spacings), 1.0])
    tilt = draw(st.tuples(*[st.floats(-20, 20)] * 3) | st.just((0.0, 0.0, 0.0)))
    move = np.eye(4)
    move[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return move @ rotation(tilt) @ affine


def noise(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1000, shape).astype(np.float32)


def stored(volume: Volume, orientation: np.ndarray) -> Volume:
    """The same scan with its array axes permuted and flipped."""
    data = np.ascontiguousarray(apply_orientation(volume.data, orientation))
    return Volume(data, volume.affine @ inv_ornt_aff(orientation, volume.data.shape))


def test_there_are_48_orientations() -> None:
    assert len(ORIENTATIONS) == 48
    codes = {
        nibabel.aff2axcodes(stored(Volume(noise((4, 5, 6), 0), np.eye(4)), o).affine)
        for o in ORIENTATIONS
    }
    assert len(codes) == 48


@pytest.mark.fault(15)
@pytest.mark.parametrize("tilt", [(0.0, 0.0, 0.0), (12.0, -7.0, 19.0)])
def test_all_48_orientations_give_the_same_bits(tilt: tuple[float, float, float], measured) -> None:
    affine = rotation(tilt) @ np.diag([0.9, 1.3, 3.0, 1])
    affine[:3, 3] = (-17, 5.5, 80)
    scan = Volume(noise((13, 17, 9), 0), affine)
    prepare = Preparation(setup((1.5, 1.5, 2.0)))
    wanted = prepare(scan).volume.numpy()
    for orientation in ORIENTATIONS:
        np.testing.assert_array_equal(prepare(stored(scan, orientation)).volume.numpy(), wanted)
    measured(f"{len(ORIENTATIONS)} orientations, the same bits")


@few
@given(worlds(), shapes, spacings, st.sampled_from(ORIENTATIONS), seeds)
def test_any_storage_of_a_scan_gives_the_same_bits_and_maps_of_its_shape(
    affine: np.ndarray,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    orientation: np.ndarray,
    seed: int,
) -> None:
    scan = Volume(noise(shape, seed), affine)
    other = stored(scan, orientation)
    prepare = Preparation(setup(spacing))
    one, two = prepare(scan), prepare(other)
    np.testing.assert_array_equal(one.volume.numpy(), two.volume.numpy())
    value = noise((16, 16, 16), seed)
    back = one.back(value).data, two.back(value).data
    assert back[0].shape == scan.data.shape
    assert back[1].shape == other.data.shape
    np.testing.assert_array_equal(apply_orientation(back[0], orientation), back[1])


@few
@given(worlds(), shapes, seeds)
def test_where_a_head_lies_in_the_world_does_not_matter(
    affine: np.ndarray, shape: tuple[int, int, int], seed: int
) -> None:
    prepare, data = Preparation(setup((1.5, 1.2, 2.0))), noise(shape, seed)
    bare = np.diag([*np.linalg.norm(affine[:3, :3], axis=0), 1.0])
    one, other = prepare(Volume(data, affine)), prepare(Volume(data, bare))
    np.testing.assert_array_equal(one.volume.numpy(), other.volume.numpy())


@few
@given(worlds(), shapes, st.sampled_from(ORIENTATIONS), seeds)
def test_at_its_own_spacing_every_voxel_of_a_map_returns_to_its_place(
    affine: np.ndarray, shape: tuple[int, int, int], orientation: np.ndarray, seed: int
) -> None:
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0).round(5))
    scan = stored(Volume(noise(shape, seed), affine), orientation)
    prepare = Preparation(setup(spacing, (32, 32, 32), intensity="ct", window=((0.0, 1000.0),)))
    prepared = prepare(scan)
    back = prepared.back(prepared.volume.numpy()[0], outside=-1.0).data
    np.testing.assert_allclose(back, 2 * scan.data / 1000 - 1, atol=1e-5)


@few
@given(worlds(), st.sampled_from(ORIENTATIONS), seeds)
def test_a_marked_voxel_of_the_model_is_marked_at_its_place_in_the_world(
    affine: np.ndarray, orientation: np.ndarray, seed: int
) -> None:
    shape = np.array([10, 14, 12])
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0).round(5))
    scan = stored(Volume(noise(tuple(shape.tolist()), seed), affine), orientation)
    prepare = Preparation(setup(spacing, (16, 16, 16)))
    place = np.random.default_rng(seed).integers(0, shape)
    # A grid of 16 about the middle of the scan: the pad before is half of the missing.
    value = np.zeros((16, 16, 16), np.float32)
    value[tuple(place + (16 - shape) // 2)] = 1
    back = prepare(scan).back(value).data
    (found,) = np.argwhere(back > 0.5)
    np.testing.assert_allclose(
        scan.affine @ [*found, 1], affine @ [*place, 1], atol=1e-3 * min(spacing)
    )


@few
@given(worlds(), spacings, st.sampled_from(ORIENTATIONS), st.tuples(*[st.floats(-0.15, 0.15)] * 3))
def test_a_resampled_blob_comes_back_to_its_place(
    affine: np.ndarray,
    spacing: tuple[float, float, float],
    orientation: np.ndarray,
    offset: tuple[float, float, float],
) -> None:
    own = np.linalg.norm(affine[:3, :3], axis=0)
    shape = np.ceil(60 / own).astype(int)
    middle = affine[:3, :3] @ (((np.array(offset) + 0.5) * shape) - 0.5) + affine[:3, 3]
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    world = grid @ affine[:3, :3].T + affine[:3, 3]
    blob = 1000 * np.exp(-((world - middle) ** 2).sum(-1) / (2 * 6.0**2))
    scan = stored(Volume(blob.astype(np.float32), affine), orientation)
    size = tuple(int(16 * np.ceil(66 / s / 16)) for s in spacing)
    prepare = Preparation(setup(spacing, size, intensity="ct", window=((0.0, 1000.0),)))
    prepared = prepare(scan)
    back = prepared.back(prepared.volume.numpy()[0] + 1).data
    found = scan.affine @ [*center_of_mass(back), 1]
    assert np.linalg.norm(found[:3] - middle) < 0.5 * min(*own, *spacing)


@pytest.mark.parametrize("outside", [0.0, -3.0, 7.0])
def test_beyond_the_model_a_map_is_what_was_asked_for(outside: float) -> None:
    scan = Volume(noise((40, 10, 10), 0), np.eye(4))
    prepare = Preparation(setup())
    back = prepare(scan).back(np.ones((16, 16, 16), np.float32), outside).data
    assert (back[12:28] == 1).all()
    assert (back[:12] == outside).all()
    assert (back[28:] == outside).all()


def test_maps_go_back_as_often_as_one_likes() -> None:
    scan = stored(Volume(noise((11, 12, 13), 0), np.diag([2.0, 1, 1.5, 1])), ORIENTATIONS[29])
    prepare = Preparation(setup((1.5, 1.5, 1.5)))
    prepared, value = prepare(scan), noise((16, 16, 16), 1)
    kept = value.copy()
    first, second = prepared.back(value).data, prepared.back(value).data
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(value, kept)
    np.testing.assert_allclose(prepared.back(2 * value).data, 2 * first, rtol=1e-4, atol=1e-2)


def test_a_preparation_keeps_nothing_of_the_scan_before() -> None:
    prepare = Preparation(setup())
    one, other = Volume(noise((9, 20, 16), 0), np.eye(4)), Volume(noise((20, 9, 7), 1), np.eye(4))
    first = prepare(one)
    prepare(other)
    assert first.back(np.zeros((16, 16, 16), np.float32)).data.shape == (9, 20, 16)
    np.testing.assert_array_equal(prepare(one).volume.numpy(), first.volume.numpy())


def test_voxel_1_of_the_model_grid_is_on_the_right_front_and_top() -> None:
    data = np.zeros((16, 16, 16), np.float32)
    data[2, 3, 4] = 1000
    affine = np.diag([-1.0, -1, 1, 1])  # array axes to the left, back and top
    prepared = Preparation(setup(intensity="ct"))(Volume(data, affine)).volume.numpy()
    assert np.argwhere(prepared[0] == 1).tolist() == [[13, 12, 4]]


# Intensities


def test_ct_that_is_scaled_as_mri_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    _say_that_it_looks_like_ct.cache_clear()
    chest = np.linspace(-1024, 1500, 16**3, dtype=np.float32).reshape(16, 16, 16)
    for _ in range(2):
        intensity_scale(chest, setup(intensity="ct"))
        intensity_scale(chest + 1024, setup())
    assert not caplog.records
    for _ in range(2):
        intensity_scale(chest, setup())
    assert caplog.text.count("data.intensity=ct") == 1


def test_a_window_in_hu_is_exact() -> None:
    data = np.linspace(-1000, 1000, 16**3, dtype=np.float32).reshape(16, 16, 16)
    prepared = Preparation(setup(intensity="ct"))(Volume(data, np.eye(4))).volume.numpy()[0]
    np.testing.assert_allclose(prepared, np.clip((data + 160) / 200 - 1, -1, 1), atol=1e-6)


def test_padding_is_the_darkest_there_is() -> None:
    for intensity in ("mri", "ct"):
        scan = Volume(noise((8, 16, 16), 0) / 10 + 50, np.eye(4))
        prepared = Preparation(setup(intensity=intensity))(scan).volume.numpy()[0]
        assert (prepared[:4] == -1).all()
        assert (prepared[12:] == -1).all()


def test_empty_air_does_not_shift_percentiles() -> None:
    scan = noise((16, 16, 16), 0) / 10 + 500
    padded = np.pad(scan, 12)
    assert intensity_scale(padded, setup()) == intensity_scale(
        np.concatenate([scan.ravel(), np.zeros(1000)]), setup()
    )
    low, high = intensity_scale(padded, setup()).intensities
    np.testing.assert_allclose((low, high), np.percentile(scan, (0.5, 99.5)), rtol=1e-6)


@given(st.floats(1e-12, 1e12), seeds)
def test_the_unit_of_intensities_does_not_matter(factor: float, seed: int) -> None:
    data = noise((8, 8, 8), seed).astype(np.float64) ** 2
    low, high = intensity_scale(data, setup()).intensities
    np.testing.assert_allclose(
        intensity_scale(factor * data, setup()).intensities,
        (factor * low, factor * high),
        rtol=1e-6,
    )


@few
@given(st.floats(1e-9, 1e9))
def test_a_scan_in_another_unit_is_prepared_alike(factor: float) -> None:
    data, prepare = noise((12, 12, 12), 0), Preparation(setup((1.1, 1.0, 1.0)))
    wanted = prepare(Volume(data, np.eye(4))).volume.numpy()
    assert wanted.std() > 0.3
    other = prepare(Volume((data * np.float64(factor)).astype(np.float32), np.eye(4)))
    np.testing.assert_allclose(other.volume.numpy(), wanted, atol=1e-4)


def test_the_scale_of_a_scan_of_two_values_divides_by_no_zero() -> None:
    data = torch.zeros(16, 16, 16)
    data[5:9] = 300
    scaled = intensity_scale(data.numpy(), setup())(data)
    assert scaled.isfinite().all()
    assert scaled.abs().max() <= 1


def test_coarsening_does_not_alias() -> None:
    checkers = (np.indices((48, 48, 48)).sum(0) % 2 * 1000).astype(np.float32)
    prepare = Preparation(setup((3.0, 3.0, 3.0), intensity="ct", window=((0.0, 1000.0),)))
    inner = prepare(Volume(checkers, np.eye(4))).volume.numpy()[0, 2:-2, 2:-2, 2:-2]
    assert np.abs(inner).max() < 0.05


def test_refining_does_not_blur() -> None:
    data = noise((16, 16, 16), 0)
    prepare = Preparation(setup(intensity="ct", window=((0.0, 1000.0),)))
    np.testing.assert_allclose(
        prepare(Volume(data, np.eye(4))).volume.numpy()[0], data / 500 - 1, atol=1e-5
    )


# Files


def test_a_path_and_a_volume_give_the_same_bits(tmp_path: Path) -> None:
    affine = rotation((5.0, 3.0, 0.0)) @ np.diag([1.5, 1, 2, 1])
    prepare = Preparation(setup((1.4, 1.4, 1.4)))
    for number, orientation in enumerate(ORIENTATIONS[::7]):
        path = tmp_path / f"{number}.nii.gz"
        stored(Volume(noise((12, 14, 9), 0), affine), orientation).save(path)
        read = check_image(path, "c-1").volume
        one, two = prepare(read), prepare(Volume(read.data, read.affine))
        np.testing.assert_array_equal(one.volume.numpy(), two.volume.numpy())
        value = noise((16, 16, 16), 1)
        np.testing.assert_array_equal(one.back(value).data, two.back(value).data)


def test_header_scaling_is_applied(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(-1000, 1000, (16, 16, 16)).astype(np.int16)
    image = nibabel.Nifti1Image(raw, np.eye(4))
    image.header.set_slope_inter(0.5, 20)
    # nibabel divides by the slope while it saves, so what is given is what is read.
    image = nibabel.Nifti1Image(raw * 0.5 + 20, np.eye(4), image.header)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii")
    assert nibabel.load(tmp_path / "a.nii").dataobj.slope != 1
    prepare = Preparation(setup(intensity="ct"))
    wanted = np.clip((raw * 0.5 + 20 + 160) / 200 - 1, -1, 1)
    scan = check_image(tmp_path / "a.nii", "c-1").volume
    np.testing.assert_allclose(prepare(scan).volume.numpy()[0], wanted, atol=1e-3)


def test_a_single_fourth_axis_changes_nothing(tmp_path: Path) -> None:
    data = noise((16, 12, 14), 0)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "three.nii")
    nibabel.save(nibabel.Nifti1Image(data[..., None], np.eye(4)), tmp_path / "four.nii")
    prepare = Preparation(setup())
    three, four = (
        prepare(check_image(tmp_path / f"{name}.nii", "c-1").volume) for name in ("three", "four")
    )
    np.testing.assert_array_equal(four.volume.numpy(), three.volume.numpy())
    back = four.back(three.volume.numpy()[0])
    assert back.data.shape == (16, 12, 14)
    back.save(tmp_path / "back.nii")
    assert nibabel.load(tmp_path / "back.nii").shape == (16, 12, 14, 1)


# Sizes and channels


@pytest.mark.parametrize("spacing", [(90.0, 90.0, 90.0), (0.002, 1.0, 1.0)])
def test_a_scan_that_resampling_would_blow_up_or_shrink_to_nothing_is_refused(
    spacing: tuple[float, float, float],
) -> None:
    prepare = Preparation(setup())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="E_SIZE c-1") as caught:
        prepare(Volume(noise((24, 24, 24), 0), np.diag([*spacing, 1.0])), "c-1")
    assert "mm" in caught.value.what
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16


def test_each_channel_is_scaled_by_its_own_intensities_and_resampled_alike() -> None:
    affine = np.diag([1.3, 0.9, 2.0, 1.0])
    one, two = (Volume(noise((12, 14, 9), seed), affine) for seed in (0, 1))
    brighter = two.like(two.data * 7 + 100)
    prepare = Preparation(setup((1.4, 1.1, 1.2)))
    both = Preparation(setup((1.4, 1.1, 1.2), channels=("T1", "T2")))([one, brighter])
    assert both.volume.shape == (2, 16, 16, 16)
    for number, scan in enumerate((one, brighter)):
        alone = prepare(scan)
        # equal but for rounding, which on some processors depends on the number of channels
        np.testing.assert_allclose(both.volume[number], alone.volume[0], atol=2e-6)
        found, expected = both.scale[number], alone.scale[0]
        np.testing.assert_allclose(found.intensities, expected.intensities, rtol=1e-6)
        assert found.values == expected.values
    value = noise((16, 16, 16), 3)
    np.testing.assert_allclose(both.back(value).data, prepare(one).back(value).data, atol=2e-6)


def with_voxels(shape: tuple[int, int, int], background: float, **voxels: float) -> np.ndarray:
    """One value but for the first and the middle voxel."""
    data = np.full(shape, background, np.float32)
    data[0, 0, 0] = voxels.get("first", background)
    data[tuple(n // 2 for n in shape)] = voxels.get("middle", background)
    return data


@pytest.mark.fault(6)
@pytest.mark.parametrize(
    ("data", "options"),
    [
        ((noise((16, 16, 16), 0) > 500).astype(np.float32), {}),  # a mask
        (with_voxels((16, 16, 16), 0, middle=1), {}),
        (with_voxels((16, 16, 16), 500, middle=501), {}),
        (with_voxels((40, 40, 40), 0, first=500), {}),  # outside the model's field of view
        (noise((16, 16, 16), 0) + 2000, {"intensity": "ct"}),
        (noise((8, 8, 8), 0) + 2000, {"intensity": "ct"}),  # padded with air
        (noise((16, 16, 16), 0) - 3000, {"intensity": "ct"}),
    ],
)
def test_a_scan_that_scaling_or_cropping_makes_constant_is_refused(data, options, measured):
    with pytest.raises(DataError) as caught:
        Preparation(setup(**options))(Volume(data, np.eye(4)), "c-1")
    assert (caught.value.code, caught.value.where) == ("E_CONTRAST", "c-1")
    measured("constant after scaling or cropping: E_CONTRAST")


def test_a_channel_without_contrast_refuses_the_scan():
    mask = Volume((noise((16, 16, 16), 0) > 500).astype(np.float32), np.eye(4))
    other = Volume(noise((16, 16, 16), 1), np.eye(4))
    with pytest.raises(DataError, match="E_CONTRAST"):
        Preparation(setup(channels=("t1", "mask")))([other, mask])
