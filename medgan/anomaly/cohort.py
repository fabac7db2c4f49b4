"""Scores that are added to over months: a record for each scan, and tables that only grow.

A record is one file, written last of all that belongs to its scan: what has none was not scored.
Tables and pages are made of the records, and can be made again.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medgan.anomaly.alarms import false_discovery
from medgan.core.errors import DataError
from medgan.core.files import write_atomic, write_together
from medgan.core.json_files import read_json_object
from medgan.core.table_files import table_text

RECORDS = "records"
"""Folder of the records. They hold paths of patients' files."""
COLUMNS = (
    *("case", "subject", "score", "p_value", "q_value", "alarm", "comparable", "explanation"),
    *("map", "recon", "regions", "parts", "scored", "batch", "model", "model_sha256"),
    *("calibration", "replaces"),
)
"""Of scores.csv; scores of single maps are one column, since another model has other maps."""
REGION_COLUMNS = (
    *("case", "region", "volume_mm3", "peak", "mean", "peak_r_mm", "peak_a_mm", "peak_s_mm"),
    *("centre_r_mm", "centre_a_mm", "centre_s_mm", "label", "place", "found", "expected"),
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """What gave a score: a version of a model with its calibration and settings.

    Attributes:
        version: `brain/4` of a registered model; else the first digits of the hash of its weights.
        sha256: of its weights.
        summary: facts, calibration scores, level, counterpart, windows, rate of false alarms.
        smallest_mm3: smaller regions were left out.
    """

    version: str
    sha256: str
    summary: dict[str, Any]
    smallest_mm3: float = 0.0

    @property
    def key(self) -> str:
        """Twelve digits that are others where any of this is another."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Record:
    """A scored scan.

    Attributes:
        row: of the table, without its q-value; the score of each map under the map's name.
        found: rows of its regions.
        scorer: key of what scored it.
        batch: number of the scans that were scored together, from 1.
        digest: of its files' content; empty where they are of several scans.
        content: what tells whether another file is the same scan.
        file: where it was.
        page: within `report/`; empty without one.
        thumbnail: `source` and `ratio` of its picture.
    """

    row: Row
    found: list[Row]
    scorer: str
    batch: int
    digest: str
    content: dict[str, Any]
    file: str
    page: str = ""
    thumbnail: dict[str, str] = field(default_factory=dict)

    @property
    def case(self) -> str:
        """Pseudonym of the scan."""
        return self.row["case"]

    def save(self, folder: Path) -> None:
        """Writes the record, readable by the owner only.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        path = folder / RECORDS / f"{self.case}.json"
        write_atomic(path, json.dumps(asdict(self)), private=True)


def read_records(folder: Path) -> list[Record]:
    """All records of a folder, by batch and pseudonym.

    Raises:
        DataError: E_RECORD where one is damaged.
    """
    found = [Record(**_read(path)) for path in (folder / RECORDS).glob("c-*.json")]
    return sorted(found, key=lambda record: (record.batch, record.case))


def read_scorers(folder: Path) -> dict[str, Scorer]:
    """What gave the scores, by its key.

    Raises:
        DataError: E_RECORD where a file is damaged.
    """
    found = [Scorer(**_read(path)) for path in (folder / RECORDS).glob("scorer-*.json")]
    return {scorer.key: scorer for scorer in found}


def save_scorer(scorer: Scorer, folder: Path) -> None:
    """Writes down what gives the scores, before the first record that names it.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    path = folder / RECORDS / f"scorer-{scorer.key}.json"
    if not path.is_file():
        write_atomic(path, json.dumps(asdict(scorer)), private=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except (OSError, ValueError):
        raise DataError(
            "E_RECORD", path.stem, "its record cannot be read",
            "restore the file from a backup, or delete it: the scan is scored again",
        ) from None  # fmt: skip


def rows_of(records: Sequence[Record], scorers: dict[str, Scorer]) -> list[Row]:
    """All rows of the tables, in the order in which they were added.

    Within a batch comparable scans come first, highest score first. Q-values are of the scans of
    one batch that one scorer scored: they stay what they are as others come.
    """
    together: dict[tuple[int, str], list[Record]] = defaultdict(list)
    for record in records:
        together[record.batch, record.scorer].append(record)
    rows: list[Row] = []
    for (batch, key), some in sorted(together.items()):
        scorer = scorers[key]
        made = [
            {**record.row, "parts": _parts(record.row), "batch": batch,
             "model": scorer.version, "model_sha256": scorer.sha256, "calibration": key}
            for record in some
        ]  # fmt: skip
        comparable = [row for row in made if row["comparable"]]
        found = false_discovery([row["p_value"] for row in comparable])
        for row, q_value in zip(comparable, found, strict=True):
            row["q_value"] = q_value
        rows += sorted(made, key=_order)
    return rows


def write_tables(folder: Path, records: Sequence[Record], scorers: dict[str, Scorer]) -> None:
    """Writes scores.csv, scores.json and regions.csv, where they are not as they should be.

    Raises:
        EnvironmentFailure: E_DISK; the tables of before are kept.
    """
    rows = rows_of(records, scorers)
    found = {record.case: record.found for record in records}
    regions = [region for row in rows for region in found[row["case"]]]
    models = {
        key: {"version": one.version, "sha256": one.sha256, "smallest_mm3": one.smallest_mm3}
        | one.summary
        for key, one in sorted(scorers.items())
    }
    newest = scorers[rows[-1]["calibration"]].summary if rows else {}
    texts = {
        "regions.csv": table_text(regions, REGION_COLUMNS),
        "scores.csv": table_text(rows, COLUMNS),
        "scores.json": json.dumps({**newest, "models": models, "scans": rows}, indent=1),
    }
    changed = {
        folder / name: text for name, text in texts.items() if not _holds(folder / name, text)
    }
    if changed:
        write_together(changed)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _parts(row: Row) -> str:
    named = {*COLUMNS, "healthy"}
    return " ".join(f"{name}={value}" for name, value in row.items() if name not in named)


def _order(row: Row) -> tuple[bool, float, str]:
    comparable = row["comparable"]
    return not comparable, -row["score"] if comparable else 0.0, row["case"]
