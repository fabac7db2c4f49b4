"""Whether a picture shows something, at whatever size it was drawn."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread


def is_drawn(path: Path) -> bool:
    """Whether a twentieth of the pixels or more has another colour than the commonest one."""
    pixels = (imread(path)[..., :3] * 255).astype(int) @ [65536, 256, 1]
    counts = np.unique(pixels, return_counts=True)[1]
    return bool(counts.max() < 0.95 * pixels.size)
