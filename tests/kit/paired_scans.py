"""Scans whose target follows from their source by a rule."""

import numpy as np

from medgan.core.config import Preprocessing
from medgan.core.nifti import NiftiFile
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan

SHAPE = (20, 22, 18)
AFFINE = np.diag([-4.0, -4.0, 4.0, 1.0])  # LPS, as most scans are stored
MR_AND_CT = Preprocessing(
    spacing=(4, 4, 4), shape=(16, 16, 16), channels=("T1w", "ct"),
    intensity={"T1w": "mri", "ct": "ct"}, window=((-1000, 1000),), unseen={"T1w": 0}, patches=True,
)  # fmt: skip


def paired(seed: int, label: bool = True) -> CheckedScan:
    """A cylinder: CT with two tissues, and MR that is 0 in the uppermost quarter, not seen.

    In the body MR is 500 - CT, so that fat is bright; outside 5.
    """
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE).astype(float)
    distance = np.hypot(grid[0] - 9, grid[1] - 10 - rng.uniform(-1, 1))
    body = distance < 8
    ct = np.where(distance < rng.uniform(3, 5), 60.0, -100.0) + rng.normal(0, 5, SHAPE)
    ct = np.where(body, ct, -1000.0).astype(np.float32)
    mr = np.where(body, 500 - ct, 5.0).astype(np.float32)
    mr[..., 13:] = 0
    tumour = (np.hypot(distance, grid[2] - 7) < 3).astype(np.float32)
    images = {name: _file(data) for name, data in (("T1w", mr), ("ct", ct))}
    return CheckedScan(images, _file(tumour) if label else None)


def _file(data: np.ndarray) -> NiftiFile:
    return NiftiFile(Volume(data, AFFINE), "", ())
