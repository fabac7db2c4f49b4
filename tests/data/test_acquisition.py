"""Slices come from fine anatomy by the physics of their profile, and anatomy keeps its place."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from medgan.core.volume import Volume
from medgan.data.acquisition import Acquisition, Slices, coarse_scan

METHODS = ("linear", "cubic", "sinc")
ORIENTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((-1, 1), repeat=3)
]
DISTANCES, SHARES = st.floats(1.5, 6), st.floats(0.3, 1)


def anatomy(seed: int, shape: tuple[int, ...] = (20, 25, 30)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def oblique(turn: float) -> np.ndarray:
    """A rotation about two axes."""
    c, s = math.cos(turn), math.sin(turn)
    about_z, about_x = np.eye(3), np.eye(3)
    about_z[:2, :2], about_x[1:, 1:] = [[c, -s], [s, c]], [[c, -s], [s, c]]
    return about_z @ about_x


def test_a_weight_is_the_integral_of_a_gaussian_of_that_full_width_over_the_voxel():
    slices = Slices.within(40, 5.0, 4.0)
    centre = slices.first + 3 * slices.distance

    def profile(at: float) -> float:
        return math.exp(-4 * math.log(2) * ((at - centre) / slices.thickness) ** 2)

    assert profile(centre + 2) == pytest.approx(0.5)  # half the thickness away: half the height
    expected = [quad(profile, i - 0.5, i + 0.5)[0] for i in range(40)]
    assert np.allclose(slices.weights[3], expected / np.sum(expected), atol=1e-9)


def test_a_very_thick_slice_is_the_mean_and_a_very_thin_one_the_voxel():
    rng = np.random.default_rng(0).normal(size=9)
    assert Slices(9, 4.0, 9.0, 1, 1e4).weights @ rng == pytest.approx(rng.mean(), abs=1e-6)
    assert Slices(9, 4.0, 9.0, 1, 1e-3).weights @ rng == pytest.approx(rng[4])


def test_a_wave_loses_the_height_that_the_transform_of_its_profile_says():
    period, thickness = 12.0, 6.0
    wave = np.cos(2 * np.pi * np.arange(240) / period)
    slices = Slices.within(240, thickness, thickness)
    centres = slices.first + slices.distance * np.arange(slices.count)
    sigma = thickness / math.sqrt(8 * math.log(2))
    kept = math.exp(-2 * (math.pi * sigma / period) ** 2) * np.sinc(1 / period)
    inside = slice(3, -3)
    found = (slices.weights @ wave)[inside]
    assert np.allclose(found, kept * np.cos(2 * np.pi * centres / period)[inside], atol=1e-5)


def test_a_constant_survives_everything():
    acquisition = Acquisition.simulated((20, 25, 30), 2, 4.0, 3.0)
    fine = np.full((20, 25, 30), 7.0, np.float32)
    coarse = acquisition.degrade(fine)
    assert coarse.shape == (20, 25, 7)
    assert np.allclose(coarse, 7, atol=1e-5)
    for method in METHODS:
        assert np.allclose(acquisition.interpolate(coarse, method), 7, atol=1e-4)


@given(st.integers(0, 2), DISTANCES, SHARES, st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_the_adjoint_is_the_transpose(axis, distance, share, seed):
    acquisition = Acquisition.simulated((20, 25, 30), axis, distance, share * distance)
    fine = anatomy(seed)
    coarse = anatomy(seed + 1, acquisition.degrade(fine).shape)
    left = np.vdot(acquisition.degrade(fine), coarse)
    assert left == pytest.approx(np.vdot(fine, acquisition.adjoint(coarse)), abs=1e-2)


@given(st.integers(0, 2), DISTANCES, SHARES, st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_what_is_projected_gives_the_scan_back(axis, distance, share, seed):
    """Slices that touch or have gaps, from any drawn anatomy."""
    acquisition = Acquisition.simulated((20, 25, 30), axis, distance, share * distance)
    coarse = acquisition.degrade(anatomy(seed))
    projected = acquisition.project(anatomy(seed + 1), coarse)
    assert np.abs(acquisition.degrade(projected) - coarse).max() < 1e-4
    again = acquisition.project(projected, coarse)
    assert np.allclose(again, projected, atol=1e-4)


def test_a_projection_is_the_nearest_anatomy_that_gives_the_scan():
    acquisition = Acquisition.simulated((12, 10, 24), 2, 4.0, 4.0)
    truth, drawn = (anatomy(seed, (12, 10, 24)) for seed in (0, 1))
    projected = acquisition.project(drawn, acquisition.degrade(truth))
    moved, rest = projected - drawn, truth - projected
    assert abs(np.vdot(moved, rest)) < 1e-2 * np.vdot(moved, moved)
    assert np.linalg.norm(rest) < np.linalg.norm(truth - drawn)


def test_overlapping_slices_do_not_blow_noise_up():
    """Of three times their distance they pass every second slice on by less than a thousandth."""
    acquisition = Acquisition.simulated((8, 8, 60), 2, 3.0, 9.0)
    coarse = anatomy(3, (8, 8, 20))
    projected = acquisition.project(np.zeros((8, 8, 60), np.float32), coarse)
    assert projected.std() < 20 * coarse.std()
    assert np.linalg.svd(acquisition.axes[2].weights, compute_uv=False)[-1] < 1e-3


def test_several_axes_are_degraded_one_after_the_other():
    slices = [Slices.within(20, 2.0, 2.0), None, Slices.within(30, 3.0, 2.0)]
    both = Acquisition(tuple(slices))
    fine = anatomy(5)
    one = Acquisition((slices[0], None, None)).degrade(fine)
    assert np.allclose(both.degrade(fine), Acquisition((None, None, slices[2])).degrade(one))
    projected = both.project(fine[::-1], both.degrade(fine))
    assert np.abs(both.degrade(projected) - both.degrade(fine)).max() < 1e-4


def test_offsets_lead_to_the_nearest_sample():
    slices = Slices.within(30, 4.0, 3.0)
    centres = slices.first + slices.distance * np.arange(slices.count)
    nearest = np.abs(np.arange(30)[:, None] - centres).min(axis=1)
    assert np.allclose(np.abs(slices.offsets), nearest)
    assert np.isclose((np.arange(30) - slices.offsets)[:, None], centres).any(axis=1).all()
    along = Acquisition((None, None, slices)).offsets((5, 6, 30))
    assert np.allclose(along[2, 4, 5], slices.offsets)
    assert not along[:2].any()


def test_channels_are_degraded_alike():
    acquisition = Acquisition.simulated((20, 25, 30), 1, 5.0, 4.0)
    channels = np.stack([anatomy(1), anatomy(2)])
    coarse = acquisition.degrade(channels)
    assert np.allclose(coarse[1], acquisition.degrade(channels[1]))
    assert acquisition.project(channels, coarse).shape == channels.shape


def test_windowed_sinc_is_that_of_simpleitk():
    import SimpleITK as sitk

    acquisition = Acquisition.simulated((6, 6, 60), 2, 3.0, 3.0)
    coarse = acquisition.degrade(np.cumsum(anatomy(7, (6, 6, 60)), axis=2) / 5)
    slices = acquisition.axes[2]
    image = sitk.GetImageFromArray(coarse.transpose(2, 1, 0))
    image.SetSpacing((1, 1, slices.distance))
    grid = sitk.Image(6, 6, 60, sitk.sitkFloat32)
    grid.SetOrigin((0, 0, -slices.first))
    found = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLanczosWindowedSinc)
    theirs = sitk.GetArrayFromImage(found).transpose(2, 1, 0)[..., 3:-3]
    ours = acquisition.interpolate(coarse, "sinc")[..., 3:-3]
    # ours are divided by the sum of their weights
    assert np.abs(ours - theirs).max() < 0.01 * np.abs(coarse).max()


@pytest.mark.parametrize("method", METHODS)
def test_samples_stay_where_they_are(method):
    slices = Slices.covering(12, 3.0, 3.0)  # centres lie on fine voxels
    at = np.rint(slices.first + slices.distance * np.arange(12)).astype(int)
    assert np.allclose(slices.interpolation(method)[at], np.eye(12), atol=1e-6)


@given(
    st.sampled_from(ORIENTATIONS), st.floats(-0.3, 0.3),
    st.tuples(*[st.floats(0.6, 6)] * 3), st.sampled_from(["linear", "cubic"]),
)  # fmt: skip
@settings(deadline=None, max_examples=20)
def test_a_ramp_keeps_its_place_in_the_world(orientation, turn, spacing, method):
    """In files of any orientation, obliqueness and spacing, along R, A and S, to 0.01 voxel."""
    affine = np.eye(4)
    affine[:3, :3] = oblique(turn) @ orientation * spacing
    affine[:3, 3] = (11.0, -7.0, 3.0)
    shape = tuple(math.ceil(12 / mm) + 11 for mm in spacing)
    world = affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]
    for direction in range(3):
        ramp = world[direction].reshape(shape).astype(np.float32)
        found = coarse_scan(Volume(ramp, affine), (1.0, 1.0, 1.0))
        fine = found.acquisition.interpolate(found.data, method)
        mm = found.affine[:3, :3] @ np.indices(fine.shape).reshape(3, -1) + found.affine[:3, 3:]
        expected = mm[direction].reshape(fine.shape)
        fine_spacing = np.linalg.norm(found.affine[:3, :3], axis=0)
        assert (np.abs(np.log(fine_spacing)) <= np.log(1.2) + 1e-9).all()
        # splines feel the ends of a scan for some samples
        samples = np.ceil(5 * np.clip(spacing_ras(affine), 1, 6)).astype(int)
        edge = tuple(slice(one, -one) for one in samples)
        assert np.abs(fine - expected)[edge].max() < 0.01
        again = found.acquisition.degrade(expected.astype(np.float32))
        inner = tuple(slice(3, -3) for _ in range(3))
        assert np.abs(again - found.data)[inner].max() < 0.01


def spacing_ras(affine: np.ndarray) -> np.ndarray:
    """Voxel sizes along the axes closest to R, A and S."""
    return np.asarray(Volume(np.zeros((2, 2, 2)), affine).canonical().spacing)


@given(st.sampled_from(ORIENTATIONS), st.floats(2, 5), st.floats(-4, 4))
@settings(deadline=None, max_examples=15)
def test_a_point_keeps_its_place_in_the_world(orientation, distance, offset):
    """A ball that a scanner of thick slices saw lies where it was, to 0.01 voxel."""
    affine = np.eye(4)
    affine[:3, :3] = orientation * (1.0, 1.0, distance)
    shape = (40, 40, math.ceil(48 / distance))
    centre = affine @ [19.5 + offset, 19.5 - offset, (shape[2] - 1) / 2 + offset / distance, 1]
    sub = np.linspace(-0.5, 0.5, 41)  # the profile's own blur, sample by sample

    def ball(points: np.ndarray) -> np.ndarray:
        return np.exp(-((points - centre[:3, None]) ** 2).sum(axis=0) / (2 * 4.0**2))

    voxels = np.indices(shape).reshape(3, -1)
    weights = np.exp(-4 * math.log(2) * (3 * sub) ** 2)
    seen = sum(
        w * ball(affine[:3, :3] @ (voxels + np.array([[0], [0], [3 * s]])) + affine[:3, 3:])
        for w, s in zip(weights / weights.sum(), sub, strict=True)
    )
    found = coarse_scan(Volume(np.reshape(seen, shape).astype(np.float32), affine), (1.0, 1.0, 1.0))
    fine = found.acquisition.interpolate(found.data)
    mm = found.affine[:3, :3] @ np.indices(fine.shape).reshape(3, -1) + found.affine[:3, 3:]
    place = (mm * fine.ravel()).sum(axis=1) / fine.sum()
    assert np.abs(place - centre[:3]).max() < 0.01


@given(st.sampled_from(ORIENTATIONS), st.tuples(*[st.floats(0.7, 5)] * 3))
@settings(deadline=None, max_examples=15)
def test_the_orientation_of_a_file_changes_no_voxel(orientation, spacing):
    data = anatomy(11, (9, 10, 11))
    straight = np.diag([*spacing, 1.0])
    expected = coarse_scan(Volume(data, straight), (1.0, 1.0, 1.0))
    turned, affine = stored(data, straight, orientation)
    found = coarse_scan(Volume(turned, affine), (1.0, 1.0, 1.0))
    assert np.allclose(found.affine, expected.affine, atol=1e-9)
    assert np.array_equal(found.data, expected.data)
    fine = expected.acquisition.interpolate(expected.data)
    assert np.array_equal(found.acquisition.interpolate(found.data), fine)


def stored(data: np.ndarray, affine: np.ndarray, orientation: np.ndarray):
    """The same voxels in another order of axes, which the affine tells."""
    from nibabel.nifti1 import Nifti1Image
    from nibabel.orientations import io_orientation

    ornt = io_orientation(np.block([[orientation, np.zeros((3, 1))], [0, 0, 0, 1]]))
    image = Nifti1Image(data, affine).as_reoriented(ornt)
    return np.asarray(image.dataobj), image.affine


def test_the_fine_grid_covers_the_scan_about_its_centre():
    scan = Volume(np.zeros((10, 12, 7), np.float32), np.diag([0.8, 1.1, 5.0, 1.0]))
    found = coarse_scan(scan, (1.0, 1.0, 1.0))
    fine = found.acquisition.interpolate(found.data)
    assert fine.shape == (8, 12, 35)
    middle = found.affine @ [*((np.array(fine.shape) - 1) / 2), 1]
    assert np.allclose(middle, scan.affine @ [4.5, 5.5, 3, 1])


@pytest.mark.parametrize("spacing", [(1.0000002, 0.9999998, 1.0), (1.15, 0.9, 1.0)])
def test_voxels_that_are_about_as_large_as_wanted_stay(spacing):
    scan = Volume(anatomy(2, (6, 7, 8)), np.diag([*spacing, 1.0]))
    found = coarse_scan(scan, (1.0, 1.0, 1.0))
    assert found.acquisition.axes == (None, None, None)
    assert np.array_equal(found.data, scan.data)
    assert np.array_equal(found.affine, scan.affine)


def test_a_thickness_that_is_told_is_that_of_the_thickest_axis():
    scan = Volume(anatomy(2, (6, 7, 8)), np.diag([5.0, 1.0, 1.5, 1.0]))
    first, _, last = coarse_scan(scan, (1.0, 1.0, 1.0), thickness=4.0).acquisition.axes
    assert (first.thickness, first.distance) == pytest.approx((4, 5))
    assert (last.thickness, last.distance) == pytest.approx((1.5, 1.5))
