"""Scores as a BIDS derivative data set: maps, regions, a table a subject, a sidecar a file.

Under pseudonyms by default: derivatives are shared more often than scans, and subject labels often
contain initials, dates or hospital numbers.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.table_files import table_text
from medgan.core.version import __version__
from medgan.data.layouts.files import stem
from medgan.data.manifest import Case, Manifest

BIDS_VERSION = "1.9.0"
DERIVATIVES = "derivatives/medgan"
MAP, REGIONS = "desc-anomaly_statmap", "desc-anomaly_dseg"
_NAME = re.compile(
    r"(sub-[A-Za-z0-9]+)(_ses-[A-Za-z0-9]+)?((?:_[a-z]+-[A-Za-z0-9]+)*)_[A-Za-z0-9]+"
)
_SCANS = {
    "score": "0 is an average healthy scan, 1 a healthy standard deviation more",
    "p_value": "share of healthy calibration scans, this one counted among them, that score at "
    "least as high; n/a where the scan is not comparable with them",
    "q_value": "rate of false discoveries at which this scan would be called abnormal",
    "alarm": "whether the p-value is at most the requested rate of false alarms",
    "comparable": "whether the scan is of the kind of the calibration scans",
}
_REGIONS = {
    "volume_mm3": ("volume", "mm^3"),
    "peak": ("highest value of the map in it", "healthy standard deviations"),
    "mean": ("mean of the map in it", "healthy standard deviations"),
    **{f"peak_{axis}_mm": (f"position of the peak, {axis.upper()} of RAS", "mm") for axis in "ras"},
}


def subject_of(pseudonym: str) -> str:
    """`sub-` and letters and digits alone, as BIDS wants it.

    Example:
        >>> subject_of("s-ea63ae0ac3")
        'sub-ea63ae0ac3'
    """
    return "sub-" + re.sub(r"[^A-Za-z0-9]", "", pseudonym.removeprefix("s-"))


def bids_prefixes(cases: Sequence[Case], labels: Literal["pseudonym", "keep"]) -> dict[str, str]:
    """The paths of each case up to `_desc-`, relative to the folder of the derivative.

    Args:
        cases: to be scored.
        labels: pseudonym, with numbered runs where a subject has several scans; or keep, which
            takes subject, session and all else from the names of a BIDS tree.

    Raises:
        DataError: E_BIDS where labels are to be kept and a file has no name of BIDS, or two
            files differ in nothing that is kept.
    """
    scans, seen = Counter(case.subject for case in cases), Counter[str]()
    found: dict[str, str] = {}
    taken: set[str] = set()
    for case in cases:
        subject, session, more = subject_of(case.subject), "", ""
        if labels == "keep":
            name = _NAME.fullmatch(stem(Path(case.image)))
            if name is None:
                raise DataError(
                    "E_BIDS", case.case, "its file has no BIDS name with labels to keep",
                    "take score.layout=bids",
                )  # fmt: skip
            # The map has a description of its own.
            subject, session, more = name[1], name[2] or "", re.sub("_desc-[^_]+", "", name[3])
        elif scans[case.subject] > 1:
            seen[case.subject] += 1
            more = f"_run-{seen[case.subject]}"
        folder = f"{subject}/{session[1:]}/anat" if session else f"{subject}/anat"
        prefix = f"{DERIVATIVES}/{folder}/{subject}{session}{more}"
        if prefix in taken:
            raise DataError(
                "E_BIDS", case.case, "another scan has the same subject, session and run",
                "take score.layout=bids, or score one kind of scans at a time",
            )  # fmt: skip
        taken.add(prefix)
        found[case.case] = prefix
    return found


def write_derivative(
    folder: Path,
    prefixes: Mapping[str, str],
    cases: Sequence[Case],
    rows: Sequence[Mapping[str, Any]],
    regions: Sequence[Mapping[str, Any]],
) -> None:
    """Writes the tables and descriptions of a data set of maps and region maps.

    Args:
        folder: holds `derivatives/medgan`.
        prefixes: from `bids_prefixes`.
        cases: that were to be scored.
        rows: of the table of scores.
        regions: rows of the table of regions.
    """
    root = folder / DERIVATIVES
    description = {
        "Name": "Anomaly scores and maps",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "medgan", "Version": __version__}],
        "SourceDatasets": [{"Version": f"sha256:{Manifest(tuple(cases)).digest}"}],
    }
    _write_json(root / "dataset_description.json", description)
    write_atomic(
        root / "README",
        "Anomaly maps and regions of scans among healthy ones, by medgan. Research use only.\n"
        "Scores are in the sub-*_scans.tsv; scans.json says what their columns mean.\n",
    )
    # BIDS has no suffix for a map of standard deviations; others use _statmap.
    write_atomic(root / ".bidsignore", "*_statmap.nii.gz\n*_statmap.json\n")
    columns = {name: {"Description": text} for name, text in _SCANS.items()}
    _write_json(root / "scans.json", {"Description": "scores of scans", **columns})
    found = defaultdict(list)
    for region in regions:
        found[region["case"]].append(region)
    by_subject = defaultdict(list)
    for row in rows:
        path = folder / prefixes[row["case"]]
        _write_sidecars(path, found[row["case"]])
        owner = path.parent.parent
        values = {name: _shown(row[name]) for name in _SCANS}
        filename = f"anat/{path.name}_{REGIONS}.nii.gz"
        by_subject[owner].append({"filename": filename, **values})
    for owner, scans in by_subject.items():
        name = "_".join(owner.relative_to(root).parts)
        _write_table(owner / f"{name}_scans.tsv", ("filename", *_SCANS), scans)


def _write_sidecars(path: Path, regions: Sequence[Mapping[str, Any]]) -> None:
    """Descriptions of the two images of a scan, and the table of its regions."""

    def beside(name: str) -> Path:
        return path.with_name(f"{path.name}_{name}")

    _write_json(
        beside(f"{MAP}.json"),
        {
            "Description": "deviation of each voxel from healthy scans; 0 outside the model's "
            "field of view",
            "Units": "healthy standard deviations",
            "SpatialReference": "orig",
        },
    )
    columns = {
        name: {"Description": text, "Units": unit} for name, (text, unit) in _REGIONS.items()
    }
    _write_json(
        beside(f"{REGIONS}.json"),
        {
            "Description": "regions above the level of healthy maps, by number",
            "SpatialReference": "orig",
            **columns,
        },
    )
    rows = [
        {"index": r["region"], "name": r["label"] or f"region {r['region']}"}
        | {name: r[name] for name in _REGIONS}
        for r in regions
    ]
    _write_table(beside(f"{REGIONS}.tsv"), ("index", "name", *_REGIONS), rows)


def _shown(value: object) -> str:
    return "n/a" if value is None else str(value).lower()


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(values, indent=1))


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomic(path, table_text(rows, columns, "\t"))
