"""Tables on disk: CSV and TSV as spreadsheets and other programs save them."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medgan.core.errors import DataError

TABLES = (".csv", ".tsv")
SEPARATORS = (",", ";", "\t")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_table(
    path: Path, name: str = "the table", known: Sequence[str] = ()
) -> list[dict[str, str]]:
    """The rows of a table, as text without blanks around it; empty rows are left out.

    Commas, semicolons and tabs separate, whichever makes most columns of the first line. A byte
    order mark, UTF-16 and Excel's line `sep=;` are understood.

    Args:
        path: a .csv or .tsv.
        name: what an error calls it.
        known: columns that are recognised in any capitals and named as here.

    Raises:
        DataError: E_DATASET where it cannot be read, two columns have one name or a row has more
            cells than there are columns.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-16" if raw.startswith(_UTF16) else "utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError("E_DATASET", name, "cannot be read", "save it as UTF-8") from None
    try:
        lines = _cells(text, path.suffix.lower(), known)
    except (csv.Error, TypeError):
        raise DataError("E_DATASET", name, "is no CSV", "save it as CSV (UTF-8)") from None
    if not lines:
        return []
    columns = _columns(lines[0][1], name, known)
    return [_row(columns, cells, line, name) for line, cells in lines[1:]]


def table_text(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = (), separator: str = ","
) -> str:
    """Rows as the text of a table; nothing where there are neither rows nor columns.

    Args:
        rows: values by column; others than the columns are left out, missing ones are empty.
        columns: in order; by default those of the first row.
        separator: between cells.
    """
    rows = list(rows)
    columns = columns or list(rows[0] if rows else ())
    if not columns:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, columns, restval="", extrasaction="ignore", delimiter=separator, lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cells(text: str, suffix: str, known: Sequence[str]) -> list[tuple[int, list[str]]]:
    """The cells of each row that is not empty, with the line that the row ends on."""
    first, _, rest = text.partition("\n")
    announced = first.strip().strip('"')
    if skipped := announced.lower().startswith("sep="):
        separator, text = announced[4:5] or "\t", rest
    else:
        separator = _separator(text, suffix, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return [
        (reader.line_num + skipped, cells)
        for cells in ([cell.strip() for cell in row] for row in reader)
        if any(cells)
    ]


def _separator(text: str, suffix: str, known: Sequence[str]) -> str:
    """The one that finds most known columns, and most columns, in the first line with text."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    names = {name.lower() for name in known}

    def found(separator: str) -> tuple[int, int, bool]:
        cells = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=separator))]
        return len(names & set(cells)), len(cells), (separator == "\t") == (suffix == ".tsv")

    return max(SEPARATORS, key=found) if first else ","


def _columns(cells: list[str], name: str, known: Sequence[str]) -> list[str]:
    """The names of the columns; a column without a name keeps its empty one."""
    spelled = {column.lower(): column for column in known}
    columns = [cell if cell in known else spelled.get(cell.lower(), cell) for cell in cells]
    for column in columns:
        if column and columns.count(column) > 1:
            raise DataError(
                "E_DATASET", name, "two columns have one name", "give each a name of its own"
            )
    return columns


def _row(columns: list[str], cells: list[str], line: int, name: str) -> dict[str, str]:
    if any(cells[len(columns) :]):
        raise DataError(
            "E_DATASET", name, f"line {line} has more cells than there are columns",
            "put cells that hold the separator in quotes",
        )  # fmt: skip
    row = dict(zip(columns, [*cells, *[""] * len(columns)], strict=False))
    row.pop("", None)  # the number of each row, which some programs write without a name
    return row
