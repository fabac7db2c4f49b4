"""Scores of a data set: tables, JSON, and maps in each scan's own grid."""

import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from medgan.anomaly.alarms import false_discovery, is_alarm, require_calibration
from medgan.anomaly.regions import Region
from medgan.core.config import ScoreConfig
from medgan.core.errors import DataError, of_scan
from medgan.core.files import write_atomic
from medgan.core.table_files import table_text
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan
from medgan.data.conditions import covariate_of
from medgan.data.manifest import Case, Refusal
from medgan.data.reading import read_case
from medgan.model.model import Model
from medgan.model.outputs import ScanScore
from medgan.workflows.bids import MAP, REGIONS, bids_prefixes, write_derivative

log = logging.getLogger(__name__)
Row = dict[str, Any]
MAP_TEXT = "medgan score map, healthy standard deviations"
RECON_TEXT = "medgan healthy counterpart"
REGIONS_TEXT = "medgan regions above the healthy level"


def score_cases(
    model: Model,
    cases: Sequence[Case],
    folder: Path,
    settings: ScoreConfig | None = None,
    health_is_known: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    read: Callable[[Case], CheckedScan] = read_case,
) -> tuple[list[Row], list[Refusal]]:
    """Scores every case and writes the results.

    `scores.csv` and `scores.json` have one row per scan, `regions.csv` one per region; `maps/`,
    `recons/` and `regions/` are in each scan's own grid. With `score.layout=bids`, maps and regions
    go to `derivatives/medgan/`. `reporting.site` makes pages of them.

    A scan that cannot be scored is refused, and the others are scored. Results are written even if
    the run is stopped. A scan that is not comparable with the calibration scans has no p-value.

    Args:
        model: calibrated.
        cases: from a manifest.
        folder: receives everything, under pseudonyms.
        settings: the score section.
        health_is_known: whether `healthy` of the cases is known; otherwise the column is empty.
        progress: receives the number of scans done and of all.
        read: gives the checked files of a case; from the disk by default.

    Returns:
        The rows of the table and the refusals. Comparable scans come first, highest score first;
        scans that are not comparable follow by name, since their scores have no order.

    Raises:
        DataError: E_CALIBRATION if the calibration scans are too few for the false-alarm rate.
    """
    settings = settings or ScoreConfig()  # pyright: ignore[reportCallIssue]
    if settings.false_alarms and model.calibration is not None:
        require_calibration(len(model.calibration.scores), settings.false_alarms)
    _say_adjusted(model, cases)
    bids: dict[str, str] = {}
    if settings.layout in ("bids", "bids-named"):
        bids = bids_prefixes(cases, "keep" if settings.layout == "bids-named" else "pseudonym")
    rows: list[Row] = []
    regions: list[Row] = []
    refusals: list[Refusal] = []
    try:
        for number, case in enumerate(cases, start=1):
            try:
                place = bids.get(case.case, "")
                with of_scan(case.case):
                    row, found = score_case(
                        model, case, read(case), folder, settings, health_is_known, place
                    )
                rows.append(row)
                regions += found
            except DataError as error:
                refusals.append(Refusal(case.case, error.code, error.what, error.remedy))
            progress(number, len(cases))
    finally:
        _decide(rows, settings.false_alarms)
        rows.sort(key=_order)
        _write_rows(model, rows, regions, settings, folder)
        if bids:
            write_derivative(folder, bids, cases, rows, regions)
    return rows, refusals


def score_case(
    model: Model,
    case: Case,
    scan: CheckedScan,
    folder: Path,
    settings: ScoreConfig,
    health_is_known: bool = False,
    bids: str = "",
) -> tuple[Row, list[Row]]:
    """Scores one scan and writes its maps.

    Args:
        model: calibrated.
        case: what its files are named after.
        scan: its checked files.
        folder: receives `maps/`, `recons/` and `regions/`.
        settings: the score section.
        health_is_known: whether `healthy` of the case is known.
        bids: begin of the names of its files in a BIDS derivative; empty for the usual names.

    Returns:
        Its row of the table, without q-value and alarm, and the rows of its regions.

    Raises:
        DataError: why it cannot be scored.
        EnvironmentFailure: E_DISK.
    """
    label_map = scan.label.volume if scan.label else None
    covariates = model.needed_calibration.covariates_of(case)
    result = model.score(
        model.prepare(scan, case.case), label_map, settings.smallest_mm3, covariates
    )
    files = {kind: f"{kind}/{case.case}.nii.gz" for kind in ("maps", "recons", "regions")}
    if bids:
        files |= {"maps": f"{bids}_{MAP}.nii.gz", "regions": f"{bids}_{REGIONS}.nii.gz"}
    assert result.region_map is not None
    images = [
        (volume.like(volume.data.astype(dtype, copy=False)), files[kind], text)
        for kind, volume, dtype, text in (
            ("maps", result.score_map, np.float32, MAP_TEXT),
            ("recons", result.recon, np.float32, RECON_TEXT),
            ("regions", result.region_map, np.int16, REGIONS_TEXT),
        )
    ]
    for name, volume in list(result.recons.items())[1:]:
        images.append((volume, f"recons/{case.case}_{name}.nii.gz", RECON_TEXT))
    _save(folder, images)
    healthy = case.healthy if health_is_known else None
    row = score_row(case.case, case.subject, result, healthy) | {
        "map": files["maps"],
        "recon": files["recons"],
        "regions": files["regions"],
    }
    return row, region_rows(case.case, result)


def score_row(case: str, subject: str, result: ScanScore, healthy: bool | None = None) -> Row:
    """A scan's row of the table, without q-value and alarm, which are of all rows together.

    Args:
        case: its pseudonym.
        subject: likewise.
        result: of scoring it.
        healthy: whether it is; None where nobody knows.
    """
    return {
        "case": case,
        "subject": subject,
        "healthy": healthy,
        "score": round(result.score, 5),
        "p_value": result.p_value,
        "q_value": None,
        "alarm": None,
        "comparable": not result.reasons,
        "explanation": result.explanation,
        **{name: round(value, 5) for name, value in result.parts.items()},
    }


def region_rows(case: str, result: ScanScore) -> list[Row]:
    """The rows of `regions.csv` of a scan under its pseudonym, highest peak first."""
    return [_region_row(case, region) for region in result.regions]


def _save(folder: Path, images: Sequence[tuple[Volume, str, str]]) -> None:
    """Writes volumes to files with descriptions, all at once: packing lets other threads run."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda one: one[0].save(folder / one[1], one[2]), images))


def _say_adjusted(model: Model, cases: Sequence[Case]) -> None:
    """Says of how many scans a covariate is unknown, or outside of what healthy scans have."""
    adjustment = model.calibration and model.calibration.adjustment
    if not adjustment:
        return
    for one in adjustment.covariates:
        values = [covariate_of(case, one.name) for case in cases]
        if unknown := sum(not one.known(value) for value in values):
            log.warning(
                "%s is unknown of %d of %d scans: they are not adjusted for it",
                one.name, unknown, len(values),
            )  # fmt: skip
        if outside := sum(one.outside(value) for value in values):
            log.warning(
                "%s of %d of %d scans lies outside the %g to %g of the healthy calibration scans",
                one.name, outside, len(values), one.low, one.high,
            )  # fmt: skip


def _region_row(case: str, region: Region) -> Row:
    row: Row = {"case": case, "region": region.number, "volume_mm3": round(region.volume_mm3, 2)}
    row |= {"peak": round(region.peak, 3), "mean": round(region.mean, 3)}
    for name, position in (("peak", region.peak_mm), ("centre", region.centre_mm)):
        row |= {f"{name}_{axis}_mm": round(v, 2) for axis, v in zip("ras", position, strict=True)}
    intensities = {"found": f"{region.found:.5g}", "expected": f"{region.expected:.5g}"}
    return {**row, "label": region.name, "place": region.place, **intensities}


def _decide(rows: list[Row], rate: float) -> None:
    """Adds q-values and, for a rate above 0, alarms; scans that are not comparable do not count.

    P-values are not rounded: a rounded one could lie on the other side of the rate.
    """
    comparable = [row for row in rows if row["comparable"]]
    found = false_discovery([row["p_value"] for row in comparable])
    for row, q_value in zip(comparable, found, strict=True):
        row["q_value"] = q_value
        row["alarm"] = is_alarm(row["p_value"], rate) if rate else None


def _order(row: Row) -> tuple[bool, float, str]:
    comparable = row["comparable"]
    return not comparable, -row["score"] if comparable else 0.0, row["case"]


def _write_rows(
    model: Model, rows: list[Row], regions: list[Row], settings: ScoreConfig, folder: Path
) -> None:
    summary = {**summary_of(model, settings.false_alarms), "scans": rows}
    write_atomic(folder / "scores.csv", table_text(rows))
    write_atomic(folder / "regions.csv", table_text(regions))
    write_atomic(folder / "scores.json", json.dumps(summary, indent=1))


def summary_of(model: Model, false_alarms: float) -> dict[str, Any]:
    """What `scores.json` says beside its rows: model, calibration scores, counterpart, windows.

    Args:
        model: calibrated.
        false_alarms: rate of the column alarm; 0 is none.
    """
    grid = model.preprocessing
    calibration = {"scores": [], "level": 0.0}
    if model.calibration is not None:
        healthy = [round(float(score), 5) for score in model.calibration.scores]
        calibration = {"scores": healthy, "level": model.calibration.level}
    return {
        "model": model.facts,
        "calibration": calibration,
        "counterpart": model.scoring_networks().counterpart,
        "windows": [list(window) for window in grid.windows_of(grid.channels[0])],
        "false_alarms": false_alarms,
    }
