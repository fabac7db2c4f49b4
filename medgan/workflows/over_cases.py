"""Work on one scan after another, of which a bad one stops none, with a table at the end."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from medgan.core.errors import DataError, of_scan
from medgan.core.files import write_atomic
from medgan.core.table_files import table_text
from medgan.data.manifest import Refusal
from medgan.workflows.synthetic_scan import MARK

Row = dict[str, Any]
Tick = Callable[[int, int], None]


class Named(Protocol):
    """What a table has a row of: a case, or a synthetic subject."""

    @property
    def case(self) -> str:
        """The pseudonym."""
        ...


Subject = TypeVar("Subject", bound=Named)


def over_cases(
    cases: Sequence[Subject],
    folder: Path,
    name: str,
    given: Row,
    work: Callable[[Subject], tuple[Row, Row]],
    progress: Tick,
) -> tuple[list[Row], list[Refusal]]:
    """Works through the cases; results are written even if the run is stopped.

    Args:
        cases: of a manifest, or synthetic subjects.
        folder: receives `<name>.csv` and `<name>.json`.
        name: of the table.
        given: what the JSON says of the whole.
        work: on one case; gives its row of the table, and its record in the JSON.
        progress: receives the number of scans done and of all.

    Returns:
        The rows, and the scans that cannot be used.
    """
    rows: list[Row] = []
    records: list[Row] = []
    refusals: list[Refusal] = []
    try:
        for number, case in enumerate(cases, start=1):
            try:
                with of_scan(case.case):
                    row, record = work(case)
                rows.append(row)
                records.append(record)
            except DataError as error:
                refusals.append(Refusal(case.case, error.code, error.what, error.remedy))
            progress(number, len(cases))
    finally:
        write_results(folder, name, given, rows, records)
    return rows, refusals


def write_results(
    folder: Path, name: str, given: Row, rows: Sequence[Row], records: Sequence[Row]
) -> None:
    """Writes `<name>.csv` and `<name>.json`.

    Args:
        folder: receives them.
        name: of the table.
        given: what the JSON says of the whole.
        rows: of the table.
        records: of the scans in the JSON.
    """
    summary = {"synthetic": True, "description": MARK, **given, "scans": records}
    write_atomic(folder / f"{name}.csv", table_text(rows))
    write_atomic(folder / f"{name}.json", json.dumps(summary, indent=1))
