"""Where regions are said to lie, however a scan is stored; and a model without networks."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

import medgan
from medgan.anomaly.calibration import ScoringConfig
from medgan.core.config import Preprocessing
from medgan.core.template import PERCENTILES, Template
from medgan.core.volume import Volume
from medgan.data.mni import mni152, mni_affine
from medgan.model.model import Model
from medgan.networks.gan import Networks
from tests.kit.models import SIZES

pytestmark = pytest.mark.long

SHAPE, MM = (48, 64, 48), 4.0
LEFT = (-32.0, 24.0, 40.0)
"""In MNI152 space."""


def on_grid(mm: float, shape: tuple[int, int, int], centre: tuple[float, float, float]) -> Volume:
    """The mean brain resampled, RAS+."""
    brain = mni152()
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = np.array(centre) - mm * (np.array(shape) - 1) / 2
    to_brain = np.linalg.inv(brain.affine) @ affine
    data = ndimage.affine_transform(
        brain.data, to_brain[:3, :3], to_brain[:3, 3].tolist(), shape, order=1
    )
    return Volume(data.astype(np.float32), affine)


def scan(seed: int, dark: tuple[float, float, float] | None = None) -> Volume:
    """A brain with noise, that lies elsewhere in its scanner, and a dark ball in it if asked."""
    rng = np.random.default_rng(seed)
    volume = on_grid(3.0, (64, 80, 64), (0.0, -16.0, 8.0))
    data = volume.data * (1 + 0.05 * rng.normal(size=volume.shape)).astype(np.float32)
    if dark is not None:
        places = np.moveaxis(np.indices(volume.shape), 0, -1) @ volume.affine[:3, :3].T
        data[np.linalg.norm(places + volume.affine[:3, 3] - dark, axis=-1) < 12] *= 0.3
    moved = volume.affine.copy()
    moved[:3, 3] += (20.0, 50.0, -30.0)
    return Volume(data, moved)


def stored_as(volume: Volume, axes: str) -> Volume:
    """The same scan with its voxels in another order."""
    turned = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    image = nibabel.Nifti1Image(volume.data, volume.affine).as_reoriented(turned.tolist())
    return Volume(np.asarray(image.dataobj), np.asarray(image.affine))


@pytest.fixture(scope="module")
def model() -> Model:
    mean = on_grid(MM, SHAPE, (0.0, -16.0, 8.0)).data / 127.5 - 1
    marks = np.percentile(mean[mean > -0.7], PERCENTILES)
    spread = np.where(mean > -0.9, 0.15, 0.02)
    template = Template(
        mean[None].astype(np.float32), spread[None].astype(np.float32),
        marks[None].astype(np.float32), 0.95,
    )  # fmt: skip
    grid = Preprocessing(spacing=(MM, MM, MM), shape=SHAPE, align="affine", template=template)
    made = Model(Networks(), grid, SIZES)
    made.calibrate([scan(seed) for seed in range(5)], ScoringConfig(("darker",)))
    return made


@pytest.mark.parametrize(
    ("axes", "side"),
    [
        ("RAS", "left"),
        ("LPS", "right"),
        ("PIR", "right"),
        pytest.param("LPS", "left", marks=pytest.mark.slow),
        pytest.param("LAS", "right", marks=pytest.mark.slow),
    ],
)
def test_a_lesion_is_on_its_side_however_the_scan_is_stored(
    model: Model, axes: str, side: str
) -> None:
    where = LEFT if side == "left" else (-LEFT[0], *LEFT[1:])
    result = model.score(stored_as(scan(9, where), axes))
    first = result.regions[0]
    assert first.place.startswith(f"{side}, front, upper: ")
    told = np.array([float(n) for n in first.place.split("MNI ")[1].rstrip(")").split(",")])
    assert np.linalg.norm(told - where) < 15  # the ball's radius, and a voxel
    assert f"{abs(told[0]):.0f} mm {side} of the midline" in first.place
    assert first.found < 0.6 * first.expected


def test_without_mni_coordinates_the_side_is_that_in_the_scan(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgan.model.anomaly.mni_of", lambda template, spacing: None)
    for axes in ("RAS", "LPS", "PIR"):
        result = model.score(stored_as(scan(9, LEFT), axes))
        place = result.regions[0].place
        told = re.fullmatch(
            r"(left|middle), (front|central), (upper|mid-height) part of the scan: "
            r"(\d+) mm left of, (\d+) mm in front of and (\d+) mm above its middle", place,
        )  # fmt: skip
        assert told, place
        thirds, steps = told.groups()[:3], [float(n) for n in told.groups()[3:]]
        sixths = np.array([64, 80, 64]) * 3.0 / 6  # of the field of view, in mm
        outer = [third in ("left", "front", "upper") for third in thirds]
        for is_outer, step, sixth in zip(outer, steps, sixths, strict=True):
            assert abs(step - sixth) <= 0.5 or is_outer == (step > sixth), place


def test_a_template_that_is_no_brain_has_no_mni_coordinates(model: Model) -> None:
    grid = model.preprocessing
    assert mni_affine(grid.known_template.mean[0], grid.spacing) is not None
    noise = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32)
    assert mni_affine(noise, grid.spacing) is None
    ball = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - np.array(SHAPE) / 2, axis=-1)
    assert mni_affine((ball < 20).astype(np.float32), grid.spacing) is None


def test_the_counterpart_without_networks_is_the_mean_scan_in_the_scans_own_intensities(
    model: Model, tmp_path: Path
) -> None:
    lesioned = scan(9, LEFT)
    lesioned = Volume(lesioned.data * 7 + 100, lesioned.affine)
    model.save(tmp_path)
    result = medgan.load(tmp_path).score(lesioned)
    healthy = scan(9).data * 7 + 100
    brain, ball = healthy > 400, lesioned.data < 0.6 * healthy
    error = np.abs(result.recon.data - healthy)
    assert np.median(error[brain]) < 0.08 * healthy[brain].mean()
    assert np.median(result.recon.data[ball & brain] / healthy[ball & brain]) > 0.85
    assert model.scoring_networks().counterpart == "mean"
