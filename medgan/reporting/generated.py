"""The page of generated scans: three planes of each, its covariates, and how to make it again."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import NamedTuple

from medgan.core.volume import Volume
from medgan.reporting.planes import middle_planes
from medgan.reporting.slices import grey_scale
from medgan.reporting.template import data_uri, render

MOST_TILES = 100
"""Scans on a page; a thousand would make one that browsers struggle with."""
_HEIGHT = 128
"""Pixels of the tallest plane."""


class Tile(NamedTuple):
    """A scan on the page.

    Attributes:
        name: seed and number.
        source: of the image, inside the page.
        covariates: text by name.
        labels: volumes of its labels with a full stop behind, or empty.
        longer: share of random latents that are longer.
        command: that makes it again.
    """

    name: str
    source: str
    covariates: Mapping[str, str]
    labels: str
    longer: float
    command: str


def generated_page(
    tiles: Sequence[Tile], total: int, seed: int, text: str, remarks: Sequence[str], labels: bool
) -> str:
    """The page as text.

    Args:
        tiles: the scans to show.
        total: number of scans that were generated.
        seed: of their latents.
        text: the sentence that they were asked for by, or empty.
        remarks: on conditions outside of the training range.
        labels: whether the model learned labels.
    """
    return render(
        "generated.html.j2", tiles=tiles, total=total, seed=seed, text=text, remarks=remarks,
        labels=labels,
    )  # fmt: skip


def planes_image(image: Volume, label: Volume | None) -> str:
    """The three middle planes of a scan on the model's grid, as the source of an image."""
    from PIL import Image

    drawn = None if label is None else label.data
    planes = middle_planes(image.data, image.spacing, grey_scale(image.data), _HEIGHT, drawn)
    width = sum(one.width for one in planes)
    whole, left = Image.new(planes[0].mode, (width, _HEIGHT)), 0
    for one in planes:
        whole.paste(one, (left, (_HEIGHT - one.height) // 2))
        left += one.width
    file = BytesIO()
    whole.save(file, format="png")
    return data_uri(file.getvalue())
