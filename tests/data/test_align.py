"""Scans in the space of a template, and maps back in their own."""

import itertools
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.ndimage import center_of_mass, gaussian_filter
from scipy.spatial.transform import Rotation

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError, ModelError
from medgan.core.template import PERCENTILES, Template
from medgan.core.volume import Volume
from medgan.data.align import Aligner, centred, reduced
from medgan.data.alignment import Alignment, grid_affine, resample
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render
from medgan.data.prepare import Preparation, require_aligned
from medgan.data.standardise import landmark_scale, low_frequencies

SHAPE, SPACING = (32, 48, 32), (6.0, 6.0, 6.0)


@cache
def head() -> np.ndarray:
    """A head phantom in [-1, 1] on the template's grid."""
    rng = np.random.default_rng(0)
    image, _ = render(sample_head(rng, 40.0), SHAPE, 6.0, rng)
    return (2 * (image / np.percentile(image, 99.5)).clip(0, 1) - 1).astype(np.float32)


def template() -> Template:
    mean = head()
    tissue = mean[mean > -0.7]
    marks = np.percentile(tissue, PERCENTILES).astype(np.float32)
    return Template(mean[None], np.full((1, *SHAPE), 0.1, np.float32), marks[None], 0.98)


def preprocessing(align: str = "affine") -> Preprocessing:
    return Preprocessing.model_validate(
        {"spacing": SPACING, "shape": SHAPE, "align": align, "template": template()}
    )


def pose(rng: np.random.Generator, degrees: float, shift: float = 20.0) -> np.ndarray:
    """Mm to mm: a rotation of so many degrees about a random axis, and a translation."""
    axis = rng.standard_normal(3)
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_rotvec(
        np.radians(degrees) * axis / np.linalg.norm(axis)
    ).as_matrix()
    moved[:3, 3] = rng.normal(0, shift, 3)
    return moved


def scan_of(image: np.ndarray, moved: np.ndarray, spacing: tuple[float, ...]) -> Volume:
    """A scanner's picture of an image that lies elsewhere: intensities from 0, other voxels."""
    shape = tuple(int(240 / s) for s in spacing)
    affine = grid_affine(shape, spacing)
    affine[:3, 3] += moved[:3, 3]
    matrix = np.linalg.inv(moved @ grid_affine(SHAPE, SPACING)) @ affine
    return Volume(400 * (resample(image, matrix, shape, -1.0) + 1), affine)


def test_every_voxel_of_a_map_lies_where_it_lay_in_the_file() -> None:
    """Over 100 poses, spacings and orientations: coordinates that go there and back stay."""
    rng = np.random.default_rng(0)
    small = (20, 26, 22)
    checked = 0
    for _ in range(100):
        spacing = rng.uniform(1.5, 7.0, 3).tolist()
        shape = tuple(int(n) for n in rng.integers(18, 30, 3))
        moved = pose(rng, rng.uniform(0, 180))
        moved[:3, :3] *= rng.uniform(0.9, 1.1, 3)
        flips = np.diag([*rng.choice((-1.0, 1.0), 3), 1.0])[:, [*rng.permutation(3), 3]]
        matrix = np.linalg.inv(moved @ flips @ grid_affine(shape, spacing)) @ grid_affine(
            small, SPACING
        )
        alignment = Alignment(matrix, 1.0, (small, shape))
        where = np.indices(shape).astype(np.float32)
        there = [alignment.forward(axis) for axis in where]
        back = np.stack([alignment.back(axis, np.nan) for axis in there])
        index = np.tensordot(np.linalg.inv(matrix)[:3, :3], where, 1)
        index += np.linalg.inv(matrix)[:3, 3][:, None, None, None]
        last = np.array(small)[:, None, None, None] - 1
        known = np.isfinite(back).all(axis=0) & ((index >= 0) & (index <= last)).all(axis=0)
        inner = np.zeros(shape, bool)
        inner[(slice(5, -5),) * 3] = True  # a blur replicates the border
        known &= inner
        checked += int(known.sum())
        if known.any():
            assert np.abs(back - where)[:, known].max() < 0.1
    assert checked > 10_000


@pytest.mark.parametrize("factor", [1.0, 2.0, 6.0, 12.0])
def test_only_the_part_that_counts_is_blurred_and_it_comes_out_as_the_whole_does(
    factor: float,
) -> None:
    rng, shape = np.random.default_rng(0), (64, 60, 62)
    data = rng.standard_normal(shape).astype(np.float32)
    matrix = np.diag([factor, factor, 1.0, 1.0])
    matrix[:3, 3] = 25.3
    found = Alignment(matrix, 1.0, ((2, 2, 2), shape)).forward(data)
    blurred = gaussian_filter(data, [(factor - 1) / 2] * 2 + [0.0], truncate=3)
    assert np.abs(found - resample(blurred, matrix, (2, 2, 2), np.nan)).max() < 1e-5


@pytest.mark.parametrize(("degrees", "about"), [(15, 2), (40, 0), (180, 2)])
def test_a_head_is_found_however_it_lies(degrees: int, about: int) -> None:
    """Upside down or on its side, and turned by another 15 degrees about any axis."""
    moved = pose(np.random.default_rng(degrees), 15.0)
    axis = np.radians(degrees) * np.eye(3)[about]
    moved[:3, :3] = moved[:3, :3] @ Rotation.from_rotvec(axis).as_matrix()
    scan = scan_of(head(), moved, (3.0, 3.0, 6.0))
    found = Aligner(head(), SPACING, "rigid", 0.98)(scan)
    corners = np.array([*itertools.product((8.0, 24.0), (12.0, 36.0), (8.0, 24.0))])
    points = np.c_[corners, np.ones(8)] @ (scan.affine @ found.matrix).T
    wanted = np.c_[corners, np.ones(8)] @ (moved @ grid_affine(SHAPE, SPACING)).T
    assert np.abs(points - wanted).max() < 3.0  # mm: half a voxel
    assert found.agreement > 0.9


@pytest.mark.parametrize("slices", [2, 3, 5])
def test_a_scan_of_a_few_slices_is_aligned_without_a_fault(slices: int) -> None:
    scan = scan_of(head(), pose(np.random.default_rng(0), 0.0, 5.0), (3.0, 3.0, 6.0))
    some = Volume(np.ascontiguousarray(scan.data[:, :, 20 : 20 + slices]), scan.affine)
    found = Aligner(head(), SPACING, "affine", 0.98)(some)
    assert np.isfinite(found.matrix).all()
    assert reduced(some, 10.0).shape[2] <= slices


def test_one_wrong_voxel_does_not_move_a_scan() -> None:
    scan = scan_of(head(), pose(np.random.default_rng(0), 15.0), (3.0, 3.0, 6.0))
    wrong = scan.data.copy()
    wrong[40, 40, 20] = 1e6
    aligner = Aligner(head(), SPACING, "rigid", 0.98)
    usual, found = aligner(scan), aligner(scan.like(wrong))
    assert found.agreement > 0.9
    assert np.abs(found.matrix - usual.matrix).max() < 0.5


@pytest.mark.slow  # phantoms are turned likewise above
@pytest.mark.data
def test_real_brains_are_found_however_they_lie(real_data: Path) -> None:
    paths = sorted((real_data / "ixi_brain_2mm").glob("sub-*/anat/*T1w.nii.gz"))[:3]
    shape, spacing = (80, 96, 80), (2.0, 2.0, 2.0)
    brains = [Volume.load(path) for path in paths]
    mean = centred(brains[0], shape, spacing).forward(brains[0].data)
    aligner = Aligner(np.nan_to_num(mean), spacing, "rigid", 0.97)
    rng = np.random.default_rng(0)
    for brain, degrees in zip(brains[1:], (90.0, 180.0), strict=True):
        moved = pose(rng, 15.0) @ pose(rng, 0.0)
        moved[:3, :3] = (
            moved[:3, :3] @ Rotation.from_rotvec([0, np.radians(degrees), 0]).as_matrix()
        )
        lies = Volume(brain.data, moved @ brain.affine)
        usual, found = (aligner(one).matrix for one in (brain, lies))
        corners = np.c_[np.array([*itertools.product((20.0, 60.0), repeat=3)]), np.ones(8)]
        assert np.abs(corners @ (usual - found).T).max() < 1.0  # voxels of 2 mm


def test_ct_agrees_by_its_tissue_whatever_air_and_metal_do() -> None:
    moved = pose(np.random.default_rng(2), 20.0)
    found = scan_of(head(), moved, (3.0, 3.0, 3.0))
    hu = np.where(found.data > 0, found.data / 2 - 160, -1000.0).astype(np.float32)
    hu[20:32, 30:42, 20:32] = 3000.0
    grid = preprocessing("rigid").model_copy(
        update={"intensity": "ct", "window": ((-160.0, 240.0),)}
    )
    prepared = Preparation(grid)(Volume(hu, found.affine))
    assert prepared.agreement is not None
    assert prepared.agreement > 0.95


def test_a_lesion_comes_back_to_where_it_lay() -> None:
    scan = scan_of(head(), pose(np.random.default_rng(3), 30), (2.5, 4.0, 3.0))
    lesion = np.zeros(scan.shape, np.float32)
    lesion[48:56, 34:40, 44:52] = 1.0
    prepared = Preparation(preprocessing())(scan)
    found = prepared.back(prepared.label_map(scan.like(lesion)).astype(np.float32))
    off = np.subtract(center_of_mass(found.data > 0.5), center_of_mass(lesion))
    assert np.abs(off).max() < 0.7
    assert found.shape == scan.shape


def test_what_a_scan_does_not_show_is_taken_from_the_template() -> None:
    scan = scan_of(head(), pose(np.random.default_rng(1), 10), (3.0, 3.0, 3.0))
    half = scan.like(scan.data[:, :, :40])
    whole, cut = (Preparation(preprocessing())(one) for one in (scan, half))
    assert whole.unseen is not None
    assert cut.unseen is not None
    assert not whole.unseen.any()
    inside = template().inside
    assert 0.3 < cut.unseen[inside].mean() < 0.7
    assert np.array_equal(cut.volume[0].numpy()[cut.unseen], template().mean[0][cut.unseen])
    apart = np.abs(cut.volume[0].numpy() - whole.volume[0].numpy())
    assert np.quantile(apart[inside], 0.95) < 0.3


def test_another_order_of_the_axes_gives_the_same_scan() -> None:
    scan = scan_of(head(), pose(np.random.default_rng(1), 10), (3.0, 4.0, 3.0))
    orientation = np.array([[2, -1], [0, 1], [1, -1]])
    other = Volume(
        np.ascontiguousarray(apply_orientation(scan.data, orientation)),
        scan.affine @ inv_ornt_aff(orientation, scan.shape),
    )
    assert nibabel.aff2axcodes(other.affine) != nibabel.aff2axcodes(scan.affine)
    prepare = Preparation(preprocessing())
    one, two = prepare(scan).volume.numpy(), prepare(other).volume.numpy()
    assert np.abs(one - two).mean() < 0.01


def test_a_label_map_moves_with_its_scan() -> None:
    label = (head() > 0.0).astype(np.float32)
    moved = pose(np.random.default_rng(5), 25)
    scan, where = (scan_of(one, moved, (3.0, 3.0, 3.0)) for one in (head(), 2 * label - 1))
    prepared = Preparation(preprocessing())(scan)
    found = prepared.label_map(scan.like((where.data > 400).astype(np.float32)))
    overlap = 2 * (found * label).sum() / (found.sum() + label.sum())
    assert set(np.unique(found)) == {0, 1}
    assert overlap > 0.9


def test_an_image_comes_back_in_the_intensities_of_the_scan() -> None:
    scan = scan_of(head(), np.eye(4), SPACING)
    prepared = Preparation(preprocessing())(scan)
    again = prepared.in_scanner_units(prepared.volume[0].numpy())
    inside = scan.data > 100
    assert np.abs(again.data - scan.data)[inside].mean() < 0.05 * 400


@pytest.mark.fault("alignment")
def test_what_is_no_head_is_refused_as_training_data() -> None:
    rng = np.random.default_rng(0)
    noise = Volume(rng.uniform(0, 1000, (30, 30, 30)).astype(np.float32), np.diag([5.0, 5, 5, 1]))
    prepared = Preparation(preprocessing())(noise)
    with pytest.raises(DataError, match="E_ALIGN"):
        require_aligned(prepared, preprocessing(), "c-1")


def test_alignment_without_a_template_is_refused() -> None:
    with pytest.raises(ModelError, match="E_MODEL"):
        Preparation(Preprocessing(spacing=SPACING, shape=SHAPE, align="rigid"))


def test_landmarks_undo_another_contrast_and_are_not_moved_by_a_lesion() -> None:
    known, rng = template(), np.random.default_rng(0)
    plain = head() + 0.02 * rng.standard_normal(SHAPE).astype(np.float32)
    marks = known.landmarks[0]
    usual = 100 * (plain + 1)
    other = 3000 * ((plain + 1) / 2).clip(0) ** 0.6
    lesion = usual.copy()
    lesion[14:20, 20:26, 14:20] = 2000.0
    values = []
    for one in (usual, other, lesion):
        scale = landmark_scale(one, known.inside, marks)
        assert scale is not None
        values.append(np.interp(one, scale.intensities, scale.values))
    healthy = known.inside & (lesion < 1000)
    assert np.abs(values[0] - values[1])[healthy].mean() < 0.03
    assert np.abs(values[0] - values[2])[healthy].mean() < 0.03


def test_low_frequencies_are_a_bias_field_and_not_a_lesion() -> None:
    known = template()
    mean, spread = known.mean[0], known.floored_spread[0]
    slope = np.linspace(-0.15, 0.15, SHAPE[1])[None, :, None] * known.inside
    lesion = np.zeros(SHAPE, np.float32)
    lesion[15:18, 22:26, 15:18] = 1.0
    shading = low_frequencies(mean + slope + lesion, (mean, spread), known.inside, SPACING)
    rest = (slope + lesion - shading)[known.inside]
    assert (
        np.abs(slope - shading)[known.inside & (lesion == 0)].mean()
        < 0.6 * np.abs(slope[known.inside]).mean()
    )
    assert rest.max() > 0.8
    assert not shading[~known.inside].any()
