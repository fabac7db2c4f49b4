"""The page of a scored scan: three planes, regions, its score among healthy scans."""

import base64
import gzip
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from medgan.core.config import WINDOWS
from medgan.core.volume import Volume
from medgan.reporting.plot import Score, distribution
from medgan.reporting.slices import DIFFERENCE, colour_table, heat_table
from medgan.reporting.template import render
from medgan.reporting.words import COUNTERPARTS, contrast, drivers, rarity

MOST_VOXELS = 2**24
"""Most voxels in a page; larger scans are shown on a coarser grid."""
_LEVEL = 2
"""Of compression. Level 6 took nearly twice as long and made pages 4% smaller."""
NIIVUE = "../niivue/niivue.umd.js"
_HOUNSFIELD = -200.0
"""Only CT has lower values (air); for results that do not name their modality."""


class Maps(NamedTuple):
    """A scan, its healthy counterpart and its maps on one grid.

    Attributes:
        scan, recon: in the scan's own intensities.
        heat: the score map, in healthy standard deviations.
        regions: their numbers, 0 outside.
        lesion: mask of a known lesion, or None.
    """

    scan: Volume
    recon: Volume
    heat: Volume
    regions: Volume
    lesion: Volume | None = None


class Neighbours(NamedTuple):
    """File names of the previous and the next page of the same group; empty where none is."""

    previous: str = ""
    following: str = ""


def scan_page(
    row: dict[str, Any],
    regions: Sequence[dict[str, Any]],
    maps: Maps,
    calibration: dict[str, Any],
    neighbours: Neighbours | None = None,
) -> str:
    """The page as text, with the voxels in it; NiiVue for the 3D view is a file beside it.

    Args:
        row: of scores.json, and whether it is `flagged`.
        regions: this scan's rows of regions.csv, by number.
        maps: the volumes to show.
        calibration: of scores.json: `scores` of healthy scans, the `level` of regions, what the
            `counterpart` is and, for CT, the `windows` in HU that are the model's input.
        neighbours: other pages of the same group; None for a page on its own, without links.
    """
    shown, reduced = _shown(maps)
    volume = shown.scan
    level, top = heat_range(calibration["level"])
    windows = [(low, high) for low, high in calibration.get("windows", [])]
    hounsfield = bool(windows) or float(volume.data.min()) < _HOUNSFIELD
    low, high = float(volume.data.min()), float(np.percentile(volume.data, 99.8))
    whole = [low, max(high, low + 1e-6)]
    grey = _grey_scale(volume.data, hounsfield)
    layers = {
        "scan": _layer(volume.data, *grey),
        "recon": _layer(shown.recon.data, *grey),
        "heat": _layer(shown.heat.data, 0.0, 1.5 * top / 255, np.uint8),
        "regions": _layer(shown.regions.data, 0.0, 1.0, np.uint8),
    }
    if shown.lesion is not None:
        layers["lesion"] = _layer(shown.lesion.data > 0, 0.0, 1.0, np.uint8)
    inverse = np.linalg.inv(volume.affine)
    start = round(level / 2, 1)
    peak = tuple(size // 2 for size in volume.data.shape)
    if float(shown.heat.data.max()) > start:
        peak = np.unravel_index(int(np.argmax(shown.heat.data)), shown.heat.data.shape)
    payload = {
        "shape": volume.data.shape,
        "affine": volume.affine.tolist(),
        "spacing": volume.spacing,
        "layers": layers,
        "level": level,
        "heat_start": start,
        "top": top,
        "window": whole,
        "first_window": windows[0] if windows else whole,
        "unit": " HU" if hounsfield else "",
        "peak": [int(n) for n in peak],
        "region_peaks": [_peak_voxel(region, inverse) for region in regions],
        "compare": compared_plane(volume.spacing),
        "heat_colours": _text(heat_table()),
        "difference_colours": _text(colour_table(DIFFERENCE)),
        "niivue": NIIVUE,
    }
    dots = [Score(row["case"], row["score"], state_of(row))] if row["comparable"] else []
    return render(
        "scan.html.j2", row=row, regions=regions, payload=payload, calibration=calibration,
        mm=[f"{n * s:.4g}" for n, s in zip(volume.data.shape, volume.spacing, strict=True)],
        named=any(region["label"] for region in regions), reduced=reduced, windows=windows,
        presets=_presets(windows) if hounsfield else {},
        plot=distribution(calibration["scores"], dots, calibration.get("limit")),
        neighbours=neighbours, drivers=drivers(row),
        rarity=rarity(row["p_value"], len(calibration["scores"])) if row["comparable"] else "",
        contrasts=[contrast(region, whole[1] - whole[0]) for region in regions],
        counterpart=COUNTERPARTS[calibration.get("counterpart", "reconstructed")],
        guessed=_oriented_by_guess(maps.scan),
    )  # fmt: skip


def compared_plane(spacing: Sequence[float]) -> int:
    """Axis across the plane in which scan and counterpart are compared: that of the slices.

    Example:
        >>> compared_plane((5.0, 1.0, 1.0)), compared_plane((1.0, 1.0, 1.0))
        (0, 2)
    """
    return max(range(3), key=lambda axis: (round(spacing[axis], 2), axis))


def _oriented_by_guess(scan: Volume) -> bool:
    """Whether the header of a scan does not say where left is."""
    header = scan.header
    return header is not None and int(header["qform_code"]) <= 0 >= int(header["sform_code"])


def _presets(windows: Sequence[tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Centre and width of CT windows by name, in HU, and of the model's own."""
    named = {name: (float(low), float(high)) for name, (low, high) in WINDOWS.items()}
    own = [window for window in windows if window not in named.values()]
    numbers = [""] if len(own) == 1 else [f" {number}" for number in range(1, len(own) + 1)]
    named = {f"the model's{n}": window for n, window in zip(numbers, own, strict=True)} | named
    return {name: ((low + high) / 2, high - low) for name, (low, high) in named.items()}


def state_of(row: dict[str, Any]) -> str:
    """How a comparable scan is marked in plots and tables: flagged or plain."""
    return "flagged" if row["flagged"] else "plain"


def heat_range(level: float) -> tuple[float, float]:
    """The level of regions, and the map value that is brightest."""
    level = max(float(level), 1.0)
    return level, 3 * level


def _shown(maps: Maps) -> tuple[Maps, bool]:
    """All volumes in RAS+ order, and whether they were made coarser to limit their voxels."""
    from skimage.measure import block_reduce

    canonical = [None if volume is None else volume.canonical() for volume in maps]
    scan = canonical[0]
    assert scan is not None
    factors = np.ones(3, int)
    while np.ceil(np.array(scan.data.shape) / factors).prod() > MOST_VOXELS:
        factors[np.argmin(np.array(scan.spacing) * factors)] *= 2
    if (factors == 1).all():
        return Maps(*canonical), False  # pyright: ignore[reportArgumentType]
    affine = scan.affine @ np.diag([*factors, 1.0])
    affine[:3, 3] = (scan.affine @ [*((factors - 1) / 2), 1.0])[:3]
    block: Any = tuple(int(factor) for factor in factors)
    # Means of intensities; maxima of maps and regions.
    smaller = [
        volume and Volume(block_reduce(volume.data, block, np.mean if n < 2 else np.max), affine)
        for n, volume in enumerate(canonical)
    ]
    return Maps(*smaller), True  # pyright: ignore[reportArgumentType]


def _grey_scale(data: np.ndarray, hounsfield: bool) -> tuple[float, float, type]:
    """Lowest intensity, step and data type of a stored scan.

    Steps of 1 HU for CT, whose windows are narrow; 256 steps for MRI.
    """
    if hounsfield:
        return max(float(data.min()), -1024.0), 1.0, np.uint16
    low, high = float(data.min()), float(np.percentile(data, 99.95))
    return low, max(high - low, 1e-6) / 255, np.uint8


def _layer(data: np.ndarray, low: float, step: float, kind: type) -> dict[str, Any]:
    """Voxels as stored in a page: X first, in whole steps from `low`, gzipped, base64."""
    most = np.iinfo(kind).max
    whole = np.clip(np.rint((data.astype(np.float32) - low) / step), 0, most).astype(kind)
    packed = gzip.compress(whole.tobytes(order="F"), _LEVEL, mtime=0)
    bits = 8 * np.dtype(kind).itemsize
    return {"data": base64.b64encode(packed).decode(), "low": low, "step": step, "bits": bits}


def _peak_voxel(region: dict[str, Any], inverse: np.ndarray) -> list[int]:
    """The voxel of a region's peak."""
    mm = [float(region[f"peak_{axis}_mm"]) for axis in "ras"]
    return [round(float(v)) for v in (inverse @ [*mm, 1.0])[:3]]


def _text(table: np.ndarray) -> str:
    return base64.b64encode(table.tobytes()).decode()
