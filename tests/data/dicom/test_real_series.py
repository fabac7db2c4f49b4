"""The series of the data folder, against two independent converters."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import medgan
from medgan.core.volume import Volume
from medgan.data.dicom.conversion import Conversion
from medgan.data.layouts.listed import Listed

pytestmark = pytest.mark.data
SCRIPT = Path(medgan.__file__).parents[1] / "docs" / "scripts" / "ct_windows.py"
SERIES = ("chest_ct_b40f", "chest_ct_b70f", "head_mr_hfp", "head_mr_hfs")
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def say(capsys):
    """Prints in spite of pytest: these numbers are to be seen."""

    def printed(text):
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")

    return printed


def ours(folder):
    """The only series of a folder."""
    with Conversion(folder) as conversion:
        (listed,) = conversion.expand(Listed("x", "", {"image": folder}))
        volume, notes = conversion.volume(listed.series, "c")
        assert notes == ()
        return volume


def by_simpleitk(folder):
    sitk = pytest.importorskip("SimpleITK")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).transpose(2, 1, 0), TO_RAS @ affine)


def by_dcm2niix(folder, out):
    dcm2niix = pytest.importorskip("dcm2niix")
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "scan", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return Volume.load(out / "scan.nii")


def differences(a, b):
    """Largest difference of two volumes in values, and in mm between the places of voxels.

    Both are first brought to one order of axes: converters flip rows as they like.
    """
    a, b = a.canonical(), b.canonical()
    assert a.data.shape == b.data.shape
    corners = np.array([[*(c * (np.array(a.data.shape) - 1)), 1] for c in np.ndindex(2, 2, 2)])
    apart = np.linalg.norm((corners @ (a.affine - b.affine).T)[:, :3], axis=1).max()
    values = np.abs(a.data.astype(np.float64) - b.data).max()
    return float(values), float(apart), float(np.abs(a.affine - b.affine).max())


@pytest.mark.fault(22)
@pytest.mark.parametrize("name", SERIES)
def test_two_independent_converters_agree(name, real_data, tmp_path, say):
    folder = real_data / "dicom" / name
    mine = ours(folder)
    for converter, theirs in (
        ("SimpleITK", by_simpleitk(folder)),
        ("dcm2niix", by_dcm2niix(folder, tmp_path)),
    ):
        values, apart, affine = differences(mine, theirs)
        say(f"{name} {converter}: voxels {values:g}, corners {apart:.1e} mm, affine {affine:.1e}")
        assert values == 0
        assert apart < 1e-3
        assert affine < 5e-4  # both wrote theirs as float32


def test_the_head_faces_the_same_way_supine_and_prone(real_data, say):
    """On one grid in patient space, the scans fit as they are and neither turned nor mirrored."""
    supine, prone = (ours(real_data / "dicom" / f"head_mr_{name}") for name in ("hfs", "hfp"))
    centre = resampled(supine, (1, 1, 1))
    fit = {flip: round(best_fit(centre, resampled(prone, flip)), 3) for flip in FLIPS}
    say(f"head prone on supine, by world axes: {fit}")
    best = max(fit, key=lambda flip: fit[flip])
    assert best == (1, 1, 1), fit
    assert fit[best] > max(value for flip, value in fit.items() if flip != best) + 0.05


def test_the_image_of_windows_is_written(real_data, tmp_path):
    script = runpy.run_path(str(SCRIPT))
    script["main"](real_data / "dicom" / "chest_ct_b40f", tmp_path / "windows.png")
    assert (tmp_path / "windows.png").read_bytes().startswith(b"\x89PNG")


FLIPS = [(1, 1, 1), (-1, -1, 1), (1, -1, 1), (1, 1, -1), (1, -1, -1)]
"""Mirrored left to right alone is missing: a head is too symmetric for 4.8 mm slices to tell."""


def resampled(volume, flip):
    """On a grid of 5 mm about the head's centre of mass, world axes mirrored as told."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(volume.data, 2 / np.array(volume.spacing))
    head = (smooth > 0.3 * np.percentile(smooth, 99)).nonzero()
    centre = volume.affine @ [*np.mean(head, axis=1), 1]
    steps = np.arange(-80, 81, 5.0)
    world = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1) * flip + centre[:3]
    voxels = (world - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    return ndimage.map_coordinates(smooth, voxels.reshape(-1, 3).T, order=1).reshape(
        world.shape[:3]
    )


def best_fit(a, b):
    """Correlation, over small shifts of one against the other: the head lay elsewhere."""
    from scipy import signal

    a, b = (v - v.mean() for v in (a, b))
    products = signal.fftconvolve(a, b[::-1, ::-1, ::-1], mode="same")
    return float(products.max() / np.sqrt((a**2).sum() * (b**2).sum()))
