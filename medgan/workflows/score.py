"""Scores of a data set: tables, JSON, and maps in each scan's own grid."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medgan.anomaly.alarms import false_discovery, is_alarm, require_calibration
from medgan.core.config import ScoreConfig
from medgan.core.files import write_atomic
from medgan.core.table_files import table_text
from medgan.core.version import __version__
from medgan.data.checks import CheckedScan
from medgan.data.conditions import covariate_of
from medgan.data.manifest import Case, Refusal
from medgan.data.reading import read_case
from medgan.model.digest import digest_of
from medgan.model.model import Model
from medgan.workflows.bids import bids_prefixes, write_derivative
from medgan.workflows.executor.records import CaseRecords, Task, Values, hash_of
from medgan.workflows.executor.shard import write_whole
from medgan.workflows.executor.work import Done, Executor, Here, do_all
from medgan.workflows.pages import PAGES, PageWork
from medgan.workflows.scan_score import Row, ScoreWork

log = logging.getLogger(__name__)
FOLDERS = ("maps", "recons", "regions")


def score_cases(
    model: Model,
    cases: Sequence[Case],
    folder: Path,
    settings: ScoreConfig | None = None,
    health_is_known: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    read: Callable[[Case], CheckedScan] = read_case,
    executor: Executor | None = None,
    report: Path | None = None,
    shard: bool = False,
) -> tuple[list[Row], list[Refusal]]:
    """Scores every case and writes the results.

    `scores.csv` and `scores.json` have one row per scan, `regions.csv` one per region; `maps/`,
    `recons/` and `regions/` are in each scan's own grid. With `score.layout=bids`, maps and regions
    go to `derivatives/medgan/`. `reporting.site` makes pages of them.

    A scan that cannot be scored is refused, and the others are scored. Results are written even if
    the run is stopped; what was scored by an earlier run, with the same model, settings and files,
    is not scored again. A scan that is not comparable with the calibration scans has no p-value.

    Args:
        model: calibrated.
        cases: from a manifest.
        folder: receives everything, under pseudonyms.
        settings: the score section.
        health_is_known: whether `healthy` of the cases is known; otherwise the column is empty.
        progress: receives the number of scans done and of all.
        read: gives the checked files of a case; from the disk by default, and in other processes.
        executor: does the work; this process unless given.
        report: receives the page of each scan at once; no pages are written now unless given.
        shard: whether these are a share of all cases, of which no tables are written.

    Returns:
        The rows of the table and the refusals. Comparable scans come first, highest score first;
        scans that are not comparable follow by name, since their scores have no order.

    Raises:
        DataError: E_CALIBRATION if the calibration scans are too few for the false-alarm rate.
        EnvironmentFailure: E_DISK, E_WORKER.
    """
    settings = settings or ScoreConfig()  # pyright: ignore[reportCallIssue]
    if settings.false_alarms and model.calibration is not None:
        require_calibration(len(model.calibration.scores), settings.false_alarms)
    _say_adjusted(model, cases)
    bids: dict[str, str] = {}
    if settings.layout in ("bids", "bids-named"):
        bids = bids_prefixes(cases, "keep" if settings.layout == "bids-named" else "pseudonym")
    folder, summary = folder.absolute(), summary_of(model, settings.false_alarms)
    records, pages = CaseRecords(folder), None
    if report is not None:
        pages = PageWork(CaseRecords(folder, PAGES), report.absolute(), summary)
    work = ScoreWork(records, settings, health_is_known, pages)
    if executor is None or isinstance(executor, Here):
        work = ScoreWork(records, settings, health_is_known, pages, read)
    shared = (
        __version__, model.digest or digest_of(model), summary, settings.smallest_mm3,
        health_is_known,
    )  # fmt: skip
    tasks = [
        Task(case.case, hash_of(*shared, _known_of(case), place), (case, place))
        for case in cases
        for place in (bids.get(case.case, ""),)
    ]
    write_whole(folder, "score", summary)
    done: dict[str, Done] = {}
    try:
        for one in do_all(executor or Here(model), work, tasks, progress):
            done[one.task.name] = one
    finally:
        found = [done[case.case] for case in cases if case.case in done]
        values = [one.values for one in found if one.values is not None]
        rows, regions = [one["row"] for one in values], []
        if not shard:
            rows, regions = write_scores(folder, summary, values)
        if bids:
            write_derivative(folder, bids, cases, rows, regions)
    records.keep_only([one.task.name for one in found if one.values is not None], FOLDERS)
    return rows, [one.refusal for one in found if one.refusal is not None]


def write_scores(
    folder: Path, summary: Row, scored: Sequence[Values]
) -> tuple[list[Row], list[Row]]:
    """Writes the tables: q-values and alarms are of all scans together.

    Args:
        folder: receives them.
        summary: of the model, as `summary_of` gives it.
        scored: `row` and `regions` of each scan.

    Returns:
        The rows of scans and of regions, in the order of the tables.
    """
    rows = [one["row"] for one in scored]
    regions = [region for one in scored for region in one["regions"]]
    _decide(rows, summary["false_alarms"])
    rows.sort(key=_order)
    write_atomic(folder / "scores.csv", table_text(rows))
    write_atomic(folder / "regions.csv", table_text(regions))
    write_atomic(folder / "scores.json", json.dumps({**summary, "scans": rows}, indent=1))
    return rows, regions


def _known_of(case: Case) -> Row:
    """What decides the score of a case: all but where its files are."""
    known = asdict(case)
    for name in ("images", "label", "split"):
        del known[name]
    return known


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
