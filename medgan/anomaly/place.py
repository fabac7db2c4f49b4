"""Where a position lies, in words for a reader.

Left and right are the patient's. Coordinates are RAS+: to the right, to the front, up.
"""

from collections.abc import Sequence

import numpy as np

from medgan.data.shape_library import BRAIN

_THIRDS = (
    *(("left", "middle", "right"), ("back", "central", "front")),
    ("lower", "mid-height", "upper"),
)
"""Names of the thirds of a box, from the negative end of each axis on."""
_STEPS = (("left of", "right of"), ("behind", "in front of"), ("below", "above"))
"""Towards the negative and the positive end of each axis."""
_MIDLINE_MM = 5.0
"""Nearer to the midline than this, a position has no side."""
_LEVEL_MM = 1.0
"""Shorter distances are not told."""


def place_in_brain(position: Sequence[float]) -> str:
    """A position in MNI152 space, where the anterior commissure is the origin.

    Example:
        >>> place_in_brain((-32.0, 24.0, 40.0))
        'left, front, upper: 32 mm left of the midline, 24 mm in front of and 40 mm above the \
anterior commissure (MNI -32, 24, 40)'
    """
    side = "midline" if abs(position[0]) < _MIDLINE_MM else _THIRDS[0][2 * (position[0] > 0)]
    parts = [side, *_parts(position, BRAIN)[1:]]
    across, *others = (_step(value, axis) for axis, value in enumerate(position))
    told = [f"{across} the midline" if across else "in the midline"]
    if steps := [step for step in others if step]:
        told.append(f"{' and '.join(steps)} the anterior commissure")
    mni = ", ".join(f"{value:.0f}" for value in np.rint(position) + 0.0)
    return f"{', '.join(parts)}: {', '.join(told)} (MNI {mni})"


def place_in_scan(position: Sequence[float], affine: np.ndarray, shape: Sequence[int]) -> str:
    """A position in the field of view of a scan.

    Args:
        position: in mm, RAS+.
        affine: (4, 4), voxel indices of the scan to mm.
        shape: of the scan.

    Example:
        >>> place_in_scan((-40.0, 3.0, 25.0), np.diag([-1.0, 1, 1, 1]), (121, 41, 91))
        'middle, back, lower part of the scan: 20 mm right of, 17 mm behind and 20 mm below its \
middle'
    """
    corners = np.array([np.multiply(corner, shape) - 0.5 for corner in np.ndindex(2, 2, 2)])
    corners = corners @ affine[:3, :3].T + affine[:3, 3]
    box = np.stack([corners.min(axis=0), corners.max(axis=0)])
    offset = np.asarray(position) - box.mean(axis=0)
    steps = [step for step in (_step(float(v), axis) for axis, v in enumerate(offset)) if step]
    if not steps:
        return "in the middle of the scan"
    told = " and ".join(filter(None, (", ".join(steps[:-1]), steps[-1])))
    return f"{', '.join(_parts(position, box))} part of the scan: {told} its middle"


def _parts(position: Sequence[float], box: np.ndarray) -> list[str]:
    """In which third of a box a position lies, along each axis."""
    shares = (np.asarray(position) - box[0]) / (box[1] - box[0])
    thirds = np.clip(np.floor(3 * shares), 0, 2).astype(int)
    return [names[third] for names, third in zip(_THIRDS, thirds, strict=True)]


def _step(value: float, axis: int) -> str:
    """A distance along an axis and its direction; empty where it is next to nothing."""
    if abs(value) < _LEVEL_MM:
        return ""
    return f"{abs(value):.0f} mm {_STEPS[axis][int(value > 0)]}"
