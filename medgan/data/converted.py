"""Private NIfTI files that scans of other kinds become."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from medgan.core.errors import EnvironmentFailure
from medgan.core.volume import Volume


def write_converted(volume: Volume, path: Path, description: str = "") -> None:
    """Writes a converted scan, readable by the owner only, and reads it back.

    Args:
        volume: 3D; whole numbers are stored as integers.
        path: under a pseudonym; ends in .nii.gz.
        description: at most 79 characters of the header's `descrip`.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    small = volume.data
    low, high = float(small.min()), float(small.max())
    if np.array_equal(small, np.rint(small)):
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                small = small.astype(kind)
                break
    Volume(small, volume.affine).save(path, description)
    with suppress(OSError):
        os.chmod(path, 0o600)
    back = Volume.load(path)
    if not np.array_equal(back.data, volume.data, equal_nan=True):
        raise EnvironmentFailure(
            "E_DISK", path.name, "reads back differently", "check the disk and run it again"
        )
