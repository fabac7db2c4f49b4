"""Pages of scored scans, written by those who score, or afterwards by several workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.core.json_files import read_json
from medgan.core.version import __version__
from medgan.data.checks import CheckedScan
from medgan.data.manifest import Case
from medgan.data.reading import read_case
from medgan.model.model import Model
from medgan.reporting.scan import Maps, Neighbours
from medgan.reporting.site import as_read, flagged, read_maps, write_scan
from medgan.workflows.executor.records import CaseRecords, Task, Values, hash_of
from medgan.workflows.executor.work import Executor, do_all

Row = dict[str, Any]
PAGES = "pages"
_LATER = ("q_value", "alarm")
"""Columns that a page does not show, since they are of all rows together."""


@dataclass(frozen=True)
class PageWork:
    """Writes the page of a scored scan, without the links to other pages.

    The item of a task is the case, its row and the rows of its regions.

    Attributes:
        records: of the pages, in the folder of the scores.
        report: folder of the pages.
        summary: what scores.json says beside its rows.
        read: gives the checked files of a case, without its label map.
    """

    records: CaseRecords
    report: Path
    summary: Row
    read: Callable[[Case, bool], CheckedScan] = read_case

    def __call__(
        self, model: Model | None, item: tuple[Case, Row, list[Row]]
    ) -> tuple[Values, list[str]]:
        """What the page of all scans shows of this one."""
        case, row, regions = item
        maps = read_maps(self.read(case, False).volumes[0], self.records.folder, row)
        return self._written(case, maps, row, regions), []

    def write(self, case: Case, maps: Maps, row: Row, regions: list[Row]) -> None:
        """Writes the page of a scan that was scored just now, and its record."""
        values = self._written(case, maps, row, regions)
        self.records.save(self.task(case, row, regions), values, [])

    def _written(self, case: Case, maps: Maps, row: Row, regions: list[Row]) -> Values:
        calibration, (shown,) = flagged({**self.summary, "scans": [row]})
        shown["regions_found"] = as_read(regions)
        write_scan(self.report, shown, case, maps, calibration, Neighbours())
        return {"page": shown["page"], "thumbnail": shown["thumbnail"]}

    def task(self, case: Case, row: Row, regions: Sequence[Row]) -> Task:
        """The task of a page, known by all that it shows."""
        shown = {name: value for name, value in row.items() if name not in _LATER}
        key = hash_of(__version__, self.summary, shown, as_read(regions))
        return Task(case.case, key, (case, row, list(regions)))


def write_pages(
    executor: Executor,
    work: PageWork,
    scored: Sequence[tuple[Case, Row, list[Row]]],
    progress: Callable[[int, int], None] = lambda done, total: None,
    again: bool = False,
) -> dict[str, Values]:
    """Writes those pages that are not there yet.

    Args:
        executor: writes them.
        work: on one.
        scored: case, row and rows of the regions of each.
        progress: receives the number of pages written and of all.
        again: whether all are written anew.

    Returns:
        `page` and `thumbnail` of each case.
    """
    tasks = [work.task(*one) for one in scored]
    for task in tasks:
        if again or not (work.report / f"scans/{task.name}.html").is_file():
            work.records.forget(task.name)
    done = do_all(executor, work, tasks, progress)
    return {one.task.name: one.values for one in done if one.values is not None}


def read_summary(folder: Path) -> tuple[Row, list[Row]]:
    """What scores.json says beside its rows, and its rows."""
    found = read_json(folder / "scores.json")
    rows = found.pop("scans")
    return found, rows


def by_case(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Row]]:
    """Rows of regions by their case."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["case"], []).append(dict(row))
    return found
