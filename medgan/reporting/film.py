"""Volumes one after another as a film: a GIF that any browser plays."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medgan.core.files import write_atomic
from medgan.reporting.planes import middle_planes
from medgan.reporting.slices import INK, LEFT_SIDES, PAPER, ColourScale

if TYPE_CHECKING:
    from PIL.Image import Image

_HEIGHT, _TEXT, _GAP = 200, 22, 6
"""Pixels: of the tallest plane, of a line of text, and between planes."""
_GREYS = 64
"""Shades of grey; 256 make the file half as large again, and look alike."""
_FRAME_MS, _END_MS, _LEAST_MS = 350, 1000, 20
"""How long a frame is shown, the first and the last; and the shortest that browsers show."""


def write_film(
    path: Path,
    volumes: Sequence[np.ndarray],
    texts: Sequence[str],
    spacing: tuple[float, float, float],
    scale: ColourScale,
    title: str,
    seconds: float = 0.0,
) -> None:
    """Writes a GIF that shows the middle planes of each volume, at true proportions, over and over.

    Args:
        path: the GIF.
        volumes: each (X, Y, Z), RAS+, on one grid.
        texts: one below each volume.
        spacing: mm along the three axes.
        scale: intensities shown as black and as white.
        title: above every frame.
        seconds: that each volume is shown, of a cycle whose end is its beginning; 0 shows them
            slowly, the first and the last longer.
    """
    frames = [
        _frame(volume, text, spacing, scale, title)
        for volume, text in zip(volumes, texts, strict=True)
    ]
    durations = [max(_LEAST_MS, round(1000 * seconds)) if seconds else _FRAME_MS] * len(frames)
    if not seconds:
        durations[0] = durations[-1] = _END_MS
    file = BytesIO()
    frames[0].save(
        file, format="gif", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    write_atomic(path, file.getvalue())


def _frame(
    volume: np.ndarray,
    text: str,
    spacing: tuple[float, float, float],
    scale: ColourScale,
    title: str,
) -> "Image":
    from PIL import Image, ImageDraw, ImageFont

    planes = middle_planes(volume, spacing, scale, _HEIGHT)
    whole = Image.new("L", (sum(p.width for p in planes) + 4 * _GAP, _HEIGHT + 2 * _TEXT), _dark())
    draw, font, left = ImageDraw.Draw(whole), ImageFont.load_default(13), _GAP
    for side, shown in zip(LEFT_SIDES, planes, strict=True):
        whole.paste(shown, (left, _TEXT + (_HEIGHT - shown.height) // 2))
        draw.text((left + 3, _TEXT + _HEIGHT // 2), side, _light(), font, anchor="lm")
        left += shown.width + _GAP
    middle = whole.width // 2
    draw.text((middle, _TEXT // 2), title, _light(), font, anchor="mm")
    draw.text((middle, whole.height - _TEXT // 2), text, _light(), font, anchor="mm")
    step = 256 // _GREYS
    return whole.point([value // step * step + step // 2 for value in range(256)])


def _dark() -> int:
    return int(PAPER[1:3], 16)


def _light() -> int:
    return int(INK[1:3], 16)
