"""The page of all scans that were scored in a folder over months, maybe by several models."""

from pathlib import Path

from medgan.anomaly.cohort import Record, Row, Scorer, read_records, read_scorers, rows_of
from medgan.core.files import write_atomic
from medgan.core.table_files import read_table
from medgan.reporting.scores import Group, cohort_page
from medgan.reporting.site import FOLDER, SCORES, flagged


def write_cohort_page(folder: Path, pictures: int) -> Path:
    """Writes `report/index.html`, unless it is there as it should be.

    Each model has a table and a plot of its own, the newest first: p-values of two models are not
    those of one.

    Args:
        folder: with `records/`.
        pictures: how many of the newest scans are shown with a picture.

    Returns:
        The page.

    Raises:
        DataError: E_RECORD.
        EnvironmentFailure: E_DISK.
    """
    records, scorers = read_records(folder), read_scorers(folder)
    rows = rows_of(records, scorers)
    by_case = {record.case: record for record in records}
    replaced = {row["replaces"]: row["case"] for row in rows if row["replaces"]}
    shown = {row["case"] for row in rows[max(len(rows) - pictures, 0) :]}
    groups: list[Group] = []
    for key in dict.fromkeys(row["calibration"] for row in reversed(rows)):
        some = [row for row in rows if row["calibration"] == key]
        groups.append(_group(scorers[key], some, by_case, shown, replaced))
    refused = folder / "refused.csv"
    told = read_table(refused, refused.name) if refused.is_file() else []
    page, text = folder / FOLDER / SCORES, cohort_page(groups, told)
    if not page.is_file() or page.read_bytes() != text.encode():
        write_atomic(page, text)
    return page


def _group(
    scorer: Scorer,
    rows: list[Row],
    records: dict[str, Record],
    pictured: set[str],
    replaced: dict[str, str],
) -> Group:
    calibration, rows = flagged({**scorer.summary, "scans": rows})
    for row in rows:
        record = records[row["case"]]
        row |= {"regions_found": record.found, "page": record.page, "thumbnail": {}}
        if row["case"] in pictured:
            row["thumbnail"] = record.thumbnail
    counted = [row for row in rows if row["case"] not in replaced]
    counted.sort(key=lambda row: (not row["comparable"], -row["score"], row["case"]))
    days = sorted(row["scored"][:10] for row in rows)
    since = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    facts = {"version": scorer.version, "SHA-256 of the weights": scorer.sha256}
    return Group(
        counted, calibration, facts | scorer.summary["model"],
        f"Scored by {scorer.version}, {since}",
        [row | {"by": replaced[row["case"]]} for row in rows if row["case"] in replaced],
    )  # fmt: skip
