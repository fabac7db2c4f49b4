"""One self-contained HTML page of one scored scan."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from medgan.files import write_atomic
from medgan.pictures import PLANES, grey_layer, heat_layer, plane
from medgan.results import ScanScore
from medgan.volume import Volume

FAINTEST, BRIGHTEST = 2.0, 8.0
"""Healthy standard deviations where the heat begins, and where it is brightest."""
_EDGES = (("A", "P"), ("R", "L"), ("R", "L"))
_ENDS = (("S", "I"), ("S", "I"), ("A", "P"))
_BINS = 24


def write_scan_page(
    page: Path,
    name: str,
    scan: Volume,
    result: ScanScore,
    healthy: Sequence[float],
    shown: int = 3,
) -> None:
    """Writes the page of a scan: verdict, three planes, its worst regions, where its score lies.

    Args:
        page: the HTML file.
        name: of the scan, a pseudonym.
        scan: as it was scored.
        result: what the model said of it.
        healthy: scores of the calibration scans.
        shown: regions of which slices are shown.
    """
    volume, heat, recon = (v.canonical() for v in (scan, result.score_map, result.recon))
    low, high = float(volume.data.min()), float(np.percentile(volume.data, 99.8))
    peak = np.unravel_index(int(np.argmax(heat.data)), heat.data.shape)
    inverse = np.linalg.inv(volume.affine)

    def views(at: Sequence[int]) -> list[dict[str, Any]]:
        shown = []
        for axis in range(3):
            position = int(np.clip(at[axis], 0, volume.data.shape[axis] - 1))
            wide, tall = (
                n * s
                for number, (n, s) in enumerate(zip(volume.data.shape, volume.spacing, strict=True))
                if number != axis
            )
            shown.append(
                {
                    "plane": PLANES[axis],
                    "scan": _uri(grey_layer(plane(volume.data, axis, position), low, high)),
                    "recon": _uri(grey_layer(plane(recon.data, axis, position), low, high)),
                    "heat": _uri(heat_layer(plane(heat.data, axis, position), FAINTEST, BRIGHTEST)),
                    "ratio": f"{wide:.4g} / {tall:.4g}",
                    "sides": (*_EDGES[axis], *_ENDS[axis]),
                }
            )
        return shown

    regions = [
        {
            "number": region.number,
            "region": region,
            "views": views([round(v) for v in (inverse @ (*region.peak_mm, 1.0))[:3]]),
        }
        for region in result.regions[1:shown]  # the first is where the highest voxel is
    ]
    templates = Environment(
        loader=PackageLoader("medgan.report", "."), autoescape=select_autoescape(["j2", "html"])
    )
    values = {
        "name": name,
        "result": result,
        "views": views([int(n) for n in peak]),
        "regions": regions,
        "chart": _chart(healthy, result.score),
        "scans": len(healthy),
        "faintest": FAINTEST,
        "brightest": BRIGHTEST,
    }
    write_atomic(page, templates.get_template("scan.html.j2").render(values))


def _chart(healthy: Sequence[float], score: float) -> dict[str, Any]:
    """A histogram of the healthy scores with the place of this one, in units of the picture."""
    values = np.array([*healthy, score])
    edges = np.linspace(values.min(), values.max() + 1e-6, _BINS + 1)
    counts, _ = np.histogram(healthy, edges)
    most = max(int(counts.max()), 1)
    width = 100 / _BINS
    return {
        "bars": [
            {"x": width * n, "height": 40 * int(c) / most, "width": width * 0.9}
            for n, c in enumerate(counts)
        ],
        "mark": 100 * (score - edges[0]) / (edges[-1] - edges[0]),
        "low": f"{edges[0]:.1f}",
        "high": f"{edges[-1]:.1f}",
    }


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
