"""A second scanner, simulated: brains of IXI as stored, and as another scanner might show them.

Used by harmonisation.py, which measures what helps against the difference.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from medgan.core.volume import Volume
from medgan.data.grid import Grid
from medgan.data.lesions import plant
from medgan.data.shapes import plant_shapes
from medgan.model.model import Model
from medgan.training.corruption import shipped_shapes

ZOO = "zoo/ixi-brain"
FAMILIES = ("brighter", "darker", "foreign", "missing")
EVERY = 2
"""Every second scan is measured, to save an hour."""
Change = Callable[[Volume], Volume]


def another_scanner(data: np.ndarray, subject: str) -> np.ndarray:
    """Gamma 1.6, a bias field of factor 4.5 between corners, blur of 0.6 voxels, noise of 5%.

    Each varies a little from subject to subject; the noise is Rician, air stays 0.
    """
    rng, inside = np.random.default_rng([7, int(subject[-3:])]), data > 0
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in data.shape), indexing="ij")
    made = data / np.percentile(data[inside], 99.5)
    made = made ** (1.6 * np.exp(0.05 * rng.standard_normal()))
    slopes = np.array([0.35, 0.25, 0.15]) + 0.05 * rng.standard_normal(3)
    made = made * np.exp(sum(slope * place for slope, place in zip(slopes, places, strict=True)))
    made = gaussian_filter(made, 0.6 * np.exp(0.1 * rng.standard_normal()))
    noise = 0.05 * np.exp(0.15 * rng.standard_normal())
    real, imaginary = noise * rng.standard_normal((2, *made.shape))
    made = np.hypot(made + real, imaginary)
    return np.where(inside, np.maximum(600 * made, 1), 0).astype(np.float32)


def write_sites(data: Path, splits: Path, out: Path) -> None:
    """Training scans of both sites, and calibration and test scans as stored."""
    preprocessing = Model.load(ZOO).preprocessing
    grid, affine = Grid(preprocessing), np.diag([*preprocessing.spacing, 1.0])
    for split, subjects in json.loads(splits.read_text())[data.name].items():
        for number, subject in enumerate(sorted(subjects)):
            scan = Volume.load(next(data.glob(f"{subject}/anat/*T1w.nii.gz")))
            resampled, _ = grid.resample(scan.data[None].astype(np.float32), scan.affine)
            stored = grid.crop(resampled)[0]
            stored = np.where(stored < 2, 0, stored).astype(np.float32)
            folder = split
            if split == "train":
                folder = ("siteA", "siteB")[number % 2]
                stored = another_scanner(stored, subject) if number % 2 else stored
            Volume(stored, affine).save(out / folder / f"{subject}.nii.gz")


def lesioned(data: np.ndarray, donor: np.ndarray, number: int) -> np.ndarray:
    """With the dark shape of a stroke or, every second scan, a lesion of one of four families."""
    inside, rng = data > 0, np.random.default_rng([number, number % 2])
    low, high = np.percentile(data[inside], [0.5, 99.5])

    def scaled(scan: np.ndarray) -> np.ndarray:
        values = (2 * (scan - low) / (high - low) - 1).clip(-1, 1)
        return np.where(scan > 0, values, -1).astype(np.float32)

    before = scaled(data)
    if number % 2 == 0:
        made, _ = plant_shapes(before, shipped_shapes(), rng, most=1, bright=False)
    else:
        family, radius = FAMILIES[number // 2 % 4], (3.0, 4.0, 5.0)[number % 3]
        made = plant(before, scaled(donor), family, radius, 1.0, rng).volume
    changed = np.where(made != before, (made + 1) / 2 * (high - low) + low, data)
    return np.where(inside, np.maximum(changed, 1), 0).astype(np.float32)


def histogram_matching(out: Path) -> Change:
    """The grey values of a brain to those of all training brains of site A."""
    from skimage.exposure import match_histograms

    scans = [Volume.load(path).data for path in sorted((out / "siteA").glob("*.nii.gz"))]
    pooled = np.concatenate([scan[scan > 0] for scan in scans])

    def change(scan: Volume) -> Volume:
        matched, inside = np.zeros_like(scan.data), scan.data > 0
        matched[inside] = match_histograms(scan.data[inside], pooled)
        return scan.like(matched)

    return change
