"""From a map to a table: the regions that stand out, in the scanner's own millimetres."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Map = Float[np.ndarray, "X Y Z"]


@dataclass(frozen=True)
class Region:
    """One connected part of a map above its threshold.

    Attributes:
        number: of its voxels in the label map of regions; 1 is the highest peak.
        volume_mm3: its volume.
        peak, mean: of the map inside it.
        peak_mm: world coordinates of the peak, RAS+.
        centre_mm: likewise of its centre, each voxel weighing as much as it is strange.
        name: where it is: the label that most of it lies in, `background` outside of all, empty
            without a label map.
    """

    number: int
    volume_mm3: float
    peak: float
    mean: float
    peak_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float]
    name: str = ""


def find_regions(
    score_map: Map,
    threshold: float,
    affine: Float[np.ndarray, "4 4"],
    smallest_mm3: float = 0.0,
    most: int = 50,
    label_map: Int[np.ndarray, "X Y Z"] | None = None,
    names: Mapping[int, str] | None = None,
) -> tuple[Int[np.ndarray, "X Y Z"], list[Region]]:
    """The connected parts of a map above a threshold, highest peak first.

    Voxels touch by face, edge or corner.

    Args:
        score_map: in the scan's own grid; higher is stranger.
        threshold: a region's voxels are above it.
        affine: of that grid, voxel to world mm.
        smallest_mm3: smaller parts are left out.
        most: so many at most.
        label_map: of anatomy, on the same grid.
        names: what its values stand for; the value itself where there is none.

    Returns:
        A label map, 0 outside of regions and else their number, and the regions.
    """
    from skimage.measure import label, regionprops

    parts = label(score_map > threshold, connectivity=3)
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    found = [
        part
        for part in regionprops(parts, intensity_image=score_map)
        if part.num_pixels * voxel_mm3 >= smallest_mm3
    ]
    found.sort(key=lambda part: -part.intensity_max)
    numbered = np.zeros(score_map.shape, np.int16)
    regions = []
    for number, part in enumerate(found[:most], start=1):
        places = part.coords
        values = score_map[tuple(places.T)]
        weights = values - threshold
        numbered[tuple(places.T)] = number
        regions.append(
            Region(
                number,
                float(part.num_pixels * voxel_mm3),
                float(values.max()),
                float(values.mean()),
                _world(affine, places[values.argmax()]),
                _world(affine, (places * weights[:, None]).sum(axis=0) / weights.sum()),
                _name(label_map[tuple(places.T)], names or {}) if label_map is not None else "",
            )
        )
    return numbered, regions


def _world(affine: np.ndarray, place: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in affine[:3, :3] @ place + affine[:3, 3])
    return x, y, z


def _name(values: np.ndarray, names: Mapping[int, str]) -> str:
    """The label that is met most often, tissue before background."""
    tissue = values[values != 0]
    if not len(tissue):
        return "background"
    met, counts = np.unique(tissue, return_counts=True)
    value = int(met[counts.argmax()])
    return names.get(value, str(value))
