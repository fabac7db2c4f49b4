"""Two scans of one volunteer's head, supine and prone, and what a site makes of such scans."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.core.config import Preprocessing
from medgan.core.volume import Volume
from medgan.data.brain.mask import brain_mask
from medgan.data.cleaning import clean
from medgan.data.dicom.conversion import Conversion
from medgan.data.layouts.listed import Listed
from medgan.data.prepare import Preparation

pytestmark = pytest.mark.data


def read(folder):
    with Conversion(folder) as conversion:
        (listed,) = conversion.expand(Listed("x", "", {"image": folder}))
        volume, _ = conversion.volume(listed.series, "c")
    return Volume(np.asarray(volume.data, dtype=np.float32), volume.affine)


@pytest.fixture(scope="module")
def heads(real_data):
    """Each scan with its mask."""
    scans = [read(real_data / "dicom" / f"head_mr_{name}") for name in ("hfs", "hfp")]
    return [(scan, brain_mask(scan, "c")) for scan in scans]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def ml(mask, scan):
    return mask.sum() * np.prod(scan.spacing) / 1000


def resampled(scan, spacing, turn=None):
    """The scan on a grid of another spacing about the same centre, turned in the world."""
    turn = np.eye(3) if turn is None else turn
    last = np.array(scan.data.shape) - 1
    corners = np.array([[*(c * last), 1] for c in np.ndindex(2, 2, 2)]) @ scan.affine.T
    centre = (corners[0] + corners[-1])[:3] / 2
    extent = np.ptp((corners[:, :3] - centre) @ turn, axis=0)
    shape = np.ceil(extent / spacing).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Volume(moved(scan.data, scan.affine, affine, shape), affine)


def moved(data, affine, to, shape):
    at = np.linalg.inv(affine) @ to
    return ndimage.affine_transform(
        data.astype(np.float32), at[:3, :3], at[:3, 3], tuple(shape), order=1
    )


def agreement(mask, variant, head):
    scan, expected = head
    back = moved(mask, variant.affine, scan.affine, scan.data.shape)
    return dice(back > 0.5, expected)


@pytest.mark.slow  # `test_mask` looks at phantoms, upright and tilted
def test_both_scans_of_one_head_have_one_brain(heads):
    """The head was turned over between them, so the masks are laid on each other first."""
    sitk = pytest.importorskip("SimpleITK")
    volumes = [ml(mask, scan) for scan, mask in heads]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.02)
    assert 1400 < volumes[0] < 1700
    images = []
    for scan, mask in heads:
        even = resampled(Volume(mask.astype(np.float32), scan.affine), (2, 2, 2))
        image = sitk.GetImageFromArray(even.data.transpose(2, 1, 0))
        image.SetSpacing((2.0, 2.0, 2.0))
        images.append(image)
    start = sitk.CenteredTransformInitializer(
        *images, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(*images)
    over = sitk.Resample(images[1], images[0], start)
    first, second = (sitk.GetArrayFromImage(image) > 0.5 for image in (images[0], over))
    assert dice(first, second) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spacing", "least"), [((1, 1, 1), 0.985), ((1, 1, 3), 0.98), ((1, 5, 1), 0.97)]
)
def test_other_voxel_sizes_give_the_same_brain(heads, spacing, least):
    variant = resampled(heads[0][0], spacing)
    assert agreement(brain_mask(variant, "c"), variant, heads[0]) > least


@pytest.mark.slow
@pytest.mark.parametrize("angles", [(40, 0, 0), (-40, 0, 0), (0, 40, 0), (0, -40, 0), (0, 0, 40)])
def test_a_head_rotated_by_40_degrees_has_the_same_brain(heads, angles):
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    known = resampled(heads[0][0], (1.5, 1.5, 5.0), turn)
    unknown = Volume(known.data, np.diag([1.5, 1.5, 5.0, 1.0]))  # the header does not say so
    assert agreement(brain_mask(known, "c"), known, heads[0]) > 0.96
    assert agreement(brain_mask(unknown, "c"), known, heads[0]) > 0.96


@pytest.mark.slow
@pytest.mark.parametrize("depth_mm", [0, 45])
def test_a_bright_lesion_stays_inside(heads, depth_mm):
    """In the middle of the brain, and at its upper edge."""
    scan, mask = heads[1]
    places = np.argwhere(mask) @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    centre = places.mean(0) + np.array([15, 0, depth_mm])
    world = np.indices(scan.data.shape).reshape(3, -1).T @ scan.affine[:3, :3].T
    far = np.linalg.norm(world + scan.affine[:3, 3] - centre, axis=1).reshape(scan.data.shape)
    lesion = (far < 15) & mask
    assert ml(lesion, scan) > 8
    data = np.where(lesion, 0.95 * scan.data.max(), scan.data).astype(np.float32)
    found = brain_mask(scan.like(data), "c")
    assert dice(found, mask) > 0.985
    assert (found & lesion).sum() > 0.97 * lesion.sum()


@pytest.mark.slow
def test_stripped_brains_come_through_unharmed(real_data):
    files = sorted((real_data / "ixi_brain_2mm").rglob("*_T1w.nii.gz"))[::15]
    assert len(files) == 10
    setup = Preprocessing(spacing=(2, 2, 2), shape=(80, 96, 80), brain="deepbet")
    for path in [*files, real_data / "ms_patient" / "T1.nii.gz"]:
        scan = Volume.load(path)
        values, counts = np.unique(scan.data, return_counts=True)
        background = float(values[counts.argmax()])
        found = clean([scan], setup, "c")
        whole = found.embed(found.volumes[0].data, background)
        assert (whole != scan.data).mean() < 1e-4  # specks far from the brain


@pytest.mark.slow
def test_the_brain_of_a_prepared_head_lies_in_the_middle_on_black(heads):
    setup = Preprocessing(spacing=(3.2, 3.2, 3.2), shape=(48, 64, 48), brain="deepbet", bias="n4")
    prepared = Preparation(setup)(heads[0][0])
    volume = prepared.volume[0].numpy()
    tissue = volume > -0.9
    assert 1200 < tissue.sum() * 3.2**3 / 1000 < 1700
    centre = np.array(ndimage.center_of_mass(tissue))
    assert np.abs(centre - (np.array(volume.shape) - 1) / 2).max() < 4
    assert (volume[[0, -1]] == -1).all()
