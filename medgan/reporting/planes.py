"""The three middle planes of a volume as small images, drawn without matplotlib, which is slow."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_erosion

from medgan.reporting.slices import LABEL_COLOURS, ColourScale, aspect_of, plane

if TYPE_CHECKING:
    from PIL.Image import Image


def middle_planes(
    volume: np.ndarray,
    spacing: tuple[float, float, float],
    scale: ColourScale,
    height: int,
    label: np.ndarray | None = None,
) -> "list[Image]":
    """Sagittal, coronal and axial middle slice, at true proportions and one size of a millimetre.

    Args:
        volume: (X, Y, Z), RAS+.
        spacing: mm along the three axes.
        scale: intensities shown as black and as white.
        height: of the tallest plane in pixels.
        label: (X, Y, Z), of which each label gets a contour; the images are then RGB, else grey.
    """
    from PIL import Image

    mm = [n * s for n, s in zip(volume.shape, spacing, strict=True)]
    pixels = height / max(mm[1], mm[2])
    found = []
    for axis in range(3):
        at = volume.shape[axis] // 2
        shares = (plane(volume, axis, at) - scale.low) / max(scale.high - scale.low, 1e-12)
        across = next(s for number, s in enumerate(spacing) if number != axis)
        size = (
            max(round(shares.shape[1] * across * pixels), 1),
            max(round(shares.shape[0] * across * aspect_of(axis, spacing) * pixels), 1),
        )
        grey = Image.fromarray(np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8))
        grey = grey.resize(size, Image.Resampling.BILINEAR)
        found.append(grey if label is None else _with_contours(grey, plane(label, axis, at)))
    return found


def _with_contours(grey: "Image", label: np.ndarray) -> "Image":
    from PIL import Image

    large = np.asarray(Image.fromarray(label.astype(np.int32)).resize(grey.size, 0))  # nearest
    colours = np.array(grey.convert("RGB"))
    for value in (int(v) for v in np.unique(large) if v > 0):
        mask = large == value
        colour = LABEL_COLOURS[(value - 1) % len(LABEL_COLOURS)]
        edge = mask & np.logical_not(binary_erosion(mask))
        colours[edge] = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    return Image.fromarray(colours)
