"""A page of a scan with two regions."""

import numpy as np

from medgan.core.volume import Volume
from medgan.reporting.scan import Maps, Neighbours, scan_page

EVIL = 'c-"><img src=x onerror=alert(1)>'
"""A pseudonym that would run if it was not escaped."""
WITHOUT_PAGE = 1
"""Scans of the session's scored folder that have no page of their own."""
AFFINE = np.array([[0, 0, 2.0, -20], [-2.0, 0, 0, 30], [0, 3.0, 0, 5], [0, 0, 0, 1.0]])
SHAPE = (12, 14, 16)
CALIBRATION = {"scores": [0.0, 1.0, 2.0], "level": 4.0, "rate": 0.05, "limit": 2.2}


def maps(data=None, lesion=None):
    heat, regions = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    heat[3:5, 4:6, 2:4], regions[3:5, 4:6, 2:4] = 8.0, 1
    heat[3, 4, 2] = 9.0
    heat[9, 9, 12], regions[9, 9, 12] = 5.0, 2
    scan = np.linspace(0, 100, np.prod(SHAPE)).reshape(SHAPE) if data is None else data
    volumes = [Volume(v.astype(np.float32), AFFINE) for v in (scan, scan / 2, heat, regions)]
    return Maps(*volumes, lesion=None if lesion is None else Volume(lesion, AFFINE))


def row(**changes):
    return {
        "case": "sub-1", "score": 2.5, "p_value": 0.025, "flagged": True, "comparable": True,
        "explanation": "The features map drove the score.", **changes,
    }  # fmt: skip


def regions(*places, label=""):
    for number, place in enumerate(places, start=1):
        mm = AFFINE @ [*place, 1.0]
        yield {
            "region": str(number), "volume_mm3": "96.0", "peak": "9.0", "mean": "8.1",
            **{f"peak_{axis}_mm": f"{v:.2f}" for axis, v in zip("ras", mm[:3], strict=True)},
            "label": label,
        }  # fmt: skip


def page(
    scored=None, found=((3, 4, 2), (9, 9, 12)), shown=None, windows=(), places=(),
    counterpart="reconstructed", **more,
):  # fmt: skip
    return scan_page(
        scored or row(),
        places or list(regions(*found, **more)),
        shown or maps(),
        CALIBRATION | {"windows": windows, "counterpart": counterpart},
        Neighbours("before.html", ""),
    )
