"""The page of generated scans: three planes of each, its covariates, and how to make it again."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medgan.core.volume import Volume
from medgan.reporting.planes import beside, difference_planes, middle_planes
from medgan.reporting.slices import grey_scale
from medgan.reporting.template import data_uri, render

MOST_TILES = 100
"""Scans on a page; a thousand would make one that browsers struggle with."""
_HEIGHT = 128
"""Pixels of the tallest plane."""

if TYPE_CHECKING:
    from PIL.Image import Image


class NearestText(NamedTuple):
    """The nearest training scans of a synthetic one.

    Attributes:
        scans: pseudonym and similarity of each, the nearest first.
        as_near: share of training scans that are at least as near to one of another subject.
        alone: whether none is.
    """

    scans: tuple[tuple[str, str], ...]
    as_near: float
    alone: bool


class Compared(NamedTuple):
    """What the nearest training scans are compared with.

    Attributes:
        words: for the page.
        scans: how many training scans; 0 where they are not at hand.
    """

    words: str
    scans: int


class Change(NamedTuple):
    """What another value of one condition changes in a synthetic scan.

    Attributes:
        condition: its name.
        before, after: values.
        mean: mean absolute difference, as a share of the range of intensities.
        source: of the image, inside the page.
    """

    condition: str
    before: str
    after: str
    mean: float
    source: str


class Tile(NamedTuple):
    """A scan on the page.

    Attributes:
        name: seed and number.
        source: of the image, inside the page.
        covariates: text by name.
        labels: volumes of its labels with a full stop behind, or empty.
        longer: share of random latents that are longer.
        longer_truncated: the same among latents with the truncation of the scan; None without.
        command: that makes it again.
        nearest: of the training scans, where it was asked for and they are at hand.
        changes: where they were asked for.
    """

    name: str
    source: str
    covariates: Mapping[str, str]
    labels: str
    longer: float
    longer_truncated: float | None
    command: str
    nearest: NearestText | None = None
    changes: tuple[Change, ...] = ()


def generated_page(
    tiles: Sequence[Tile],
    total: int,
    seed: int,
    text: str,
    remarks: Sequence[str],
    labels: bool,
    compared: Compared | None = None,
) -> str:
    """The page as text.

    Args:
        tiles: the scans to show.
        total: number of scans that were generated.
        seed: of their latents.
        text: the sentence that they were asked for by, or empty.
        remarks: on conditions outside of the training range.
        labels: whether the model learned labels.
        compared: what the nearest training scans are compared with; None where not asked for.
    """
    return render(
        "generated.html.j2", tiles=tiles, total=total, seed=seed, text=text, remarks=remarks,
        labels=labels, compared=compared, changes=any(tile.changes for tile in tiles),
    )  # fmt: skip


def planes_image(image: Volume, label: Volume | None) -> str:
    """The three middle planes of a scan on the model's grid, as the source of an image."""
    drawn = None if label is None else label.data
    planes = middle_planes(image.data, image.spacing, grey_scale(image.data), _HEIGHT, drawn)
    return _source(beside(planes, _HEIGHT))


def change_image(image: Volume, difference: np.ndarray, limit: float) -> str:
    """The middle planes of a scan with a difference in colour, as the source of an image."""
    scale = grey_scale(image.data)
    planes = difference_planes(image.data, difference, image.spacing, scale, limit, _HEIGHT)
    return _source(beside(planes, _HEIGHT))


def _source(image: "Image") -> str:
    file = BytesIO()
    image.save(file, format="png")
    return data_uri(file.getvalue())
