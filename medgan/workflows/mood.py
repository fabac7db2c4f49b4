"""The folder contract of the Medical Out-of-Distribution (MOOD) challenge.

Input is a folder of NIfTI files. The sample task writes one number per file, the pixel task one map
on its grid. All values are in [0, 1], higher is more anomalous. Files keep their names: do not use
it for files that are named after patients.

Reference: Zimmerer et al. 2022, MOOD 2020: a public benchmark for out-of-distribution detection and
    localization on medical images, IEEE TMI 41(10).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medgan.core.errors import ConfigError, DataError, of_scan
from medgan.core.files import write_atomic
from medgan.data.manifest import Refusal
from medgan.model.model import Model
from medgan.workflows.scan_score import MAP_TEXT

TASKS = ("sample", "pixel")


def score_mood(
    model: Model,
    source: Path,
    out: Path,
    task: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Refusal]:
    """Scores every NIfTI file of a folder in the format of the challenge.

    A scan that is not comparable with the calibration scans gets 1 in the sample task.

    Args:
        model: calibrated.
        source: folder of `.nii.gz` or `.nii` files.
        out: receives `<name>.txt` (sample) or a map `<name>` (pixel) of each.
        task: of `TASKS`.
        progress: receives the number of scans done and of all.

    Returns:
        Scans that could not be scored; nothing is written for these.

    Raises:
        ConfigError: E_MISSING if the folder holds no scan.
        ModelError: E_UNCALIBRATED.
    """
    scans = sorted(p for p in source.glob("*") if p.name.endswith((".nii.gz", ".nii")))
    if not scans:
        raise ConfigError("E_MISSING", str(source), "no NIfTI files in it", "give their folder")
    refusals = []
    for number, scan in enumerate(scans, start=1):
        try:
            with of_scan(scan.name):
                result = model.score(model.prepare(scan, scan.name))
        except DataError as error:
            refusals.append(Refusal(scan.name, error.code, error.what, error.remedy))
        else:
            if task == "sample":
                healthy = model.needed_calibration.scores
                share = 1.0 if result.reasons else healthy_share(result.score, healthy)
                write_atomic(out / f"{scan.name}.txt", f"{share:.6f}\n")
            else:
                heat = squashed(result.score_map.data, model.needed_calibration.level)
                result.score_map.like(heat).save(out / scan.name, MAP_TEXT)
        progress(number, len(scans))
    return refusals


def healthy_share(score: float, healthy: Sequence[float]) -> float:
    """Share of healthy scans that score lower, interpolated so that ranks stay distinct.

    It is linear between healthy scores and approaches 1 above the highest.

    Args:
        score: of the scan.
        healthy: of calibration scans.

    Example:
        >>> healthy_share(2.0, [1.0, 2.0, 3.0])
        0.5
    """
    rising = np.sort(np.asarray(healthy, dtype=np.float64))
    shares = np.arange(1, len(rising) + 1) / (len(rising) + 1)
    spread = max(float(rising.std()), 1e-6)
    if score > rising[-1]:
        return float(1 - (1 - shares[-1]) * np.exp(-(score - rising[-1]) / spread))
    if score < rising[0]:
        return float(shares[0] * np.exp((score - rising[0]) / spread))
    return float(np.interp(score, rising, shares))


def squashed(score_map: np.ndarray, level: float) -> np.ndarray:
    """A standardised map in [0, 1): 0.5 at the level of regions, 0 below the healthy mean."""
    above = score_map.clip(min=0)
    return (above / (above + max(level, 1e-6))).astype(np.float32)
