"""Regions of a score map above a threshold, in world coordinates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from medgan.core.volume import bounds

Map = Float[np.ndarray, "X Y Z"]


@dataclass(frozen=True)
class Region:
    """A connected component of a map above a threshold.

    Attributes:
        number: its value in the label map of regions; 1 has the highest peak.
        volume_mm3: volume.
        peak, mean: of the map in the region.
        peak_mm: world coordinates of the peak, RAS+.
        centre_mm: world coordinates of the centre of mass of the map above the threshold.
        name: of the label with most voxels in the region; `background` outside all labels, empty
            without a label map.
        place: of the peak, in words.
        found, expected: mean intensity of the scan and of its healthy counterpart in the region.
    """

    number: int
    volume_mm3: float
    peak: float
    mean: float
    peak_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float]
    name: str = ""
    place: str = ""
    found: float = math.nan
    expected: float = math.nan


def find_regions(
    score_map: Map,
    threshold: float,
    affine: Float[np.ndarray, "4 4"],
    smallest_mm3: float = 0.0,
    most: int = 50,
    label_map: Int[np.ndarray, "X Y Z"] | None = None,
    names: Mapping[int, str] | None = None,
    compared: tuple[Num[np.ndarray, "X Y Z"], Map] | None = None,
) -> tuple[Int[np.ndarray, "X Y Z"], list[Region]]:
    """Connected components of a map above a threshold, highest peak first.

    Voxels touch by face, edge or corner.

    Args:
        score_map: in the scan's own grid; higher is more unusual.
        threshold: voxels of regions are above it.
        affine: of that grid, voxel to world mm.
        smallest_mm3: smaller components are left out.
        most: largest number of regions.
        label_map: of anatomy, on the same grid.
        names: of its values; a value without a name stands for itself.
        compared: the scan and its healthy counterpart, on the same grid.

    Returns:
        A label map, 0 outside of regions and else their number, and the regions.
    """
    from skimage.measure import label, regionprops

    numbered = np.zeros(score_map.shape, np.int16)
    above = score_map > threshold
    if not above.any():
        return numbered, []
    box = bounds(above)  # most of a scan is below
    start = [one.start for one in box]
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    found = [
        part
        for part in regionprops(label(above[box], connectivity=3), intensity_image=score_map[box])
        if part.num_pixels * voxel_mm3 >= smallest_mm3
    ]
    found.sort(key=lambda part: -part.intensity_max)
    regions = []
    for number, part in enumerate(found[:most], start=1):
        positions = part.coords + start
        values = score_map[tuple(positions.T)]
        means = [float(one[tuple(positions.T)].mean()) for one in compared or ()]
        weights = values - threshold
        numbered[tuple(positions.T)] = number
        regions.append(
            Region(
                number,
                float(part.num_pixels * voxel_mm3),
                float(values.max()),
                float(values.mean()),
                _world(affine, positions[values.argmax()]),
                _world(affine, (positions * weights[:, None]).sum(axis=0) / weights.sum()),
                _name(label_map[tuple(positions.T)], names or {}) if label_map is not None else "",
                found=means[0] if means else math.nan,
                expected=means[1] if means else math.nan,
            )
        )
    return numbered, regions


def _world(affine: np.ndarray, position: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in affine[:3, :3] @ position + affine[:3, 3])
    return x, y, z


def _name(values: np.ndarray, names: Mapping[int, str]) -> str:
    """The most frequent label, tissue before background."""
    tissue = values[values != 0]
    if not len(tissue):
        return "background"
    found, counts = np.unique(tissue, return_counts=True)
    value = int(found[counts.argmax()])
    return names.get(value, str(value))
