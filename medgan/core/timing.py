"""The fourth axis of a NIfTI file, where it is time."""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
"""Units of time of `xyzt_units`, in seconds; others are of frequencies."""


class Timing(NamedTuple):
    """When the volumes of a sequence were taken.

    Attributes:
        phases: volumes along the fourth axis.
        start: of the first, in seconds.
        step: from one to the next, in seconds; 0 where the header does not say.
    """

    phases: int
    start: float
    step: float


def timing_of(header: "Nifti1Header") -> Timing | None:
    """The timing of a 4D file; None for any other, or where the header names no unit of time.

    A fourth axis without a unit of time may as well hold channels.
    """
    unit = _SECONDS.get(int(header["xyzt_units"]) & 0x38, 0.0)
    dims = [int(n) for n in header["dim"][1 : int(header["dim"][0]) + 1]]
    if not unit or len(dims) != 4 or min(dims) < 2:
        return None
    start, step = float(header["toffset"]), float(header["pixdim"][4])
    return Timing(
        dims[3], start * unit if math.isfinite(start) else 0.0,
        step * unit if math.isfinite(step) and step > 0 else 0.0,
    )  # fmt: skip
