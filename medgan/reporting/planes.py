"""The three middle planes of a volume as small images, drawn without matplotlib, which is slow."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_erosion

from medgan.reporting.slices import (
    DIFFERENCE,
    LABEL_COLOURS,
    ColourScale,
    colour_table,
    plane,
)

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
    found = []
    for axis, size in enumerate(_sizes(volume.shape, spacing, height)):
        at = volume.shape[axis] // 2
        shares = scale.shares(plane(volume, axis, at))
        grey = _image(np.rint(255 * shares).astype(np.uint8), size)
        found.append(grey if label is None else _with_contours(grey, plane(label, axis, at)))
    return found


def difference_planes(
    volume: np.ndarray,
    difference: np.ndarray,
    spacing: tuple[float, float, float],
    scale: ColourScale,
    limit: float,
    height: int,
) -> "list[Image]":
    """As `middle_planes`, with a difference in colour over the dimmed scan.

    Args:
        volume: (X, Y, Z), RAS+.
        difference: likewise; blue where it is negative, red where it is positive.
        spacing: mm along the three axes.
        scale: intensities shown as black and as white.
        limit: difference with the full colour.
        height: of the tallest plane in pixels.
    """
    colours, found = colour_table(DIFFERENCE), []
    for axis, size in enumerate(_sizes(volume.shape, spacing, height)):
        at = volume.shape[axis] // 2
        grey = 0.75 * 255 * scale.shares(plane(volume, axis, at))[..., None]
        share = np.clip(plane(difference, axis, at) / limit, -1, 1)
        coloured = colours[np.rint(127.5 * (share + 1)).astype(int)]
        weight = np.sqrt(np.abs(share))[..., None]
        mixed = (1 - weight) * grey + weight * coloured
        found.append(_image(np.rint(mixed).astype(np.uint8), size))
    return found


def beside(planes: "Sequence[Image]", height: int) -> "Image":
    """Planes from left to right in one image, each in the middle of the height."""
    from PIL import Image

    whole, left = Image.new(planes[0].mode, (sum(one.width for one in planes), height)), 0
    for one in planes:
        whole.paste(one, (left, (height - one.height) // 2))
        left += one.width
    return whole


def _sizes(
    shape: tuple[int, ...], spacing: tuple[float, float, float], height: int
) -> list[tuple[int, int]]:
    """Width and height in pixels of the three planes; the tallest is `height`."""
    mm = [n * s for n, s in zip(shape, spacing, strict=True)]
    pixels = height / max(mm[1], mm[2])
    found = []
    for axis in range(3):
        across, up = [s for number, s in enumerate(mm) if number != axis]
        found.append((max(round(across * pixels), 1), max(round(up * pixels), 1)))
    return found


def _image(pixels: np.ndarray, size: tuple[int, int]) -> "Image":
    from PIL import Image

    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


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
