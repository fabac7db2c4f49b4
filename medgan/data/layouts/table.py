"""A CSV or TSV with a row a scan: paths, subject, label map, covariates."""

import difflib
from pathlib import Path

from medgan.core.errors import DataError
from medgan.core.table_files import TABLES, read_table
from medgan.data.layouts.files import is_nifti, stem
from medgan.data.layouts.listed import Listed, Selection, subject_of, with_plain_names
from medgan.data.layouts.phases import PHASE
from medgan.data.manifest import IMAGE

COLUMNS = (IMAGE, "label", "case", "subject", "lesion_mask")
"""Columns that are no covariates, in any capitals."""
MOST_NAMED = 8
"""Columns that an error lists at most."""


def matches(source: Path) -> bool:
    """Whether this is a table by its name."""
    return source.is_file() and source.suffix.lower() in TABLES


def list_scans(path: Path, selection: Selection) -> list[Listed]:
    """The scans of a table; each channel has a column, which is `image` where there is one.

    Raises:
        DataError: E_DATASET where a column or a path is missing or the table cannot be read.
    """
    channels = selection.channels or (IMAGE,)
    rows = read_table(path, "the table", (*COLUMNS, *channels))
    columns = list(rows[0]) if rows else []
    absent = [channel for channel in channels if channel not in columns]
    if len(channels) == 1 and absent and IMAGE in columns:
        for row in rows:  # one channel may have any name
            row[channels[0]] = row.pop(IMAGE)
    elif rows and absent:
        raise _no_column(absent[0], columns)
    listing = [
        _listed(row, number, path.parent, channels) for number, row in enumerate(rows, start=1)
    ]
    return with_plain_names(listing)


def _listed(row: dict[str, str], number: int, folder: Path, channels: tuple[str, ...]) -> Listed:
    files = {channel: row.pop(channel) for channel in channels}
    images = {channel: folder / file for channel, file in files.items() if file}
    if not images:
        raise DataError(
            "E_DATASET", "the table", f"row {number} has no path in the column {channels[0]}",
            "fill it or remove the row",
        )  # fmt: skip
    first = next(iter(images))
    label = row.pop("label", "")
    name = row.pop("case", "") or str(Path(files[first]).parent / stem(images[first]))
    subject = row.pop("subject", "")
    if not subject and (is_nifti(images[first]) or len(channels) > 1):
        subject = subject_of(Path(name).name)
    if row.get("lesion_mask"):  # a known lesion of a test case, for the report
        row["lesion_mask"] = str(folder / row["lesion_mask"])
    covariates = tuple((column, value) for column, value in row.items() if value)
    missing = tuple(channel for channel in channels if channel not in images)
    return Listed(
        name, subject, images, folder / label if label else None, covariates, missing=missing,
        sequence=subject if PHASE in row else "",
    )  # fmt: skip


def _no_column(wanted: str, columns: list[str]) -> DataError:
    """What is missing, and what there is; a first line of data is not repeated."""
    if any("/" in c or "\\" in c or is_nifti(Path(c)) for c in columns):
        return DataError(
            "E_DATASET", "the table", "the first line names no columns",
            f"begin with a line such as {wanted},label",
        )  # fmt: skip
    near = difflib.get_close_matches(wanted.lower(), [c.lower() for c in columns], 1, 0.8)
    hint = next((column for column in columns if column.lower() in near), "the one with the paths")
    return DataError(
        "E_DATASET", "the table",
        f"no column {wanted} among {', '.join(columns[:MOST_NAMED])}",
        f"rename the column {hint} to {wanted}" if near else
        f"rename {hint} to {wanted}, or name it with --set 'data.channels=[...]'",
    )  # fmt: skip
