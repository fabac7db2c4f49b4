"""The folder `report/` of a run: pages that open from the disk, without a network."""

import gzip
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from medgan.anomaly.alarms import is_alarm, threshold
from medgan.anomaly.cohort import RECORDS
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json
from medgan.core.table_files import read_table
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan
from medgan.data.groups import by_group, groups_of
from medgan.data.manifest import Case, Manifest
from medgan.data.reading import read_case
from medgan.reporting.scan import Maps, Neighbours, scan_page
from medgan.reporting.scores import GroupAlarms, scores_page, thumbnail_of
from medgan.reporting.template import render
from medgan.reporting.training import TRAINING, write_training_page

FOLDER, SCORES = "report", "index.html"
FEWEST_IN_GROUP = 10
"""Healthy scans of a group below which a rate of false alarms says nothing."""
_NAV = '<nav aria-label="Pages">'
USUAL_RATE = 0.05
"""False-alarm rate of the flags where `score.false_alarms` is not set."""

Row = dict[str, Any]


def write_report(
    folder: Path,
    scans: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    read: Callable[[Case, bool], CheckedScan] = read_case,
    pages: Mapping[str, Row] | None = None,
) -> Path:
    """Writes `report/`: pages of the training, of all scores and of scans, as far as there are any.

    Args:
        folder: of a training, of scores, or of both.
        scans: how many scans get a page of their own, in the order of scores.csv.
        progress: receives the number of pages written and of all.
        read: gives the checked files of a case, without its label map; from the disk unless given.
        pages: `page` and `thumbnail` of scans whose page is written already, but for its links.

    Returns:
        The page to open.

    Raises:
        ConfigError: E_MISSING.
    """
    scored = scored_in(folder)
    if (folder / RECORDS).is_dir():
        from medgan.reporting.cohort import write_cohort_page

        return write_cohort_page(folder, scans)
    trained = write_training_page(folder)
    if scored is None and not trained:
        raise ConfigError(
            "E_MISSING", str(folder), "holds neither a training nor scores", "give a run's folder"
        )
    report = folder / FOLDER
    if scored is None:
        return report / TRAINING
    scores = read_json(scored / "scores.json")
    calibration, rows = flagged(scores)
    regions = _read_csv(scored / "regions.csv")
    for row in rows:
        row["regions_found"] = [r for r in regions if r["case"] == row["case"]]
        row |= {"page": "", "thumbnail": {}}
    cases = {case.case: case for case in Manifest.load(folder / "manifest.json").cases}
    _write_scans(report, scored, rows[:scans], cases, calibration, progress, read, pages or {})
    refused = _read_csv(folder / "refused.csv")
    alarms = _false_alarms(cases, rows)
    page = scores_page(scores, rows, calibration, refused, bool(trained), alarms)
    write_atomic(report / SCORES, page)
    return report / SCORES


def scored_in(folder: Path) -> Path | None:
    """The folder of the scores of a run; None where there are none, or those of an inbox."""
    if (folder / RECORDS).is_dir():
        return None
    return next((p for p in (folder, folder / "scores") if (p / "scores.json").is_file()), None)


def _false_alarms(cases: Mapping[str, Case], rows: list[Row]) -> list[GroupAlarms]:
    """Of healthy scans with a p-value, all and by age and sex, where health is known."""
    healthy = [row for row in rows if row["healthy"] is True and row["comparable"]]
    groups = by_group(healthy, lambda row: groups_of(cases[row["case"]].covariates))
    return [
        GroupAlarms(name, len(some), sum(row["flagged"] for row in some))
        for name, some in groups.items()
        if len(some) >= FEWEST_IN_GROUP
    ]


def flagged(scores: dict[str, Any]) -> tuple[dict[str, Any], list[Row]]:
    """The calibration with the rate and the limit of flags, and the rows with `flagged`.

    Args:
        scores: as in scores.json.
    """
    rate = scores["false_alarms"] or USUAL_RATE
    calibration = scores["calibration"] | {"rate": rate, "limit": None}
    calibration["windows"] = scores.get("windows", [])
    calibration["counterpart"] = scores.get("counterpart", "reconstructed")
    with suppress(DataError):  # too few calibration scans for any p-value as low
        limit = threshold(calibration["scores"], rate)
        calibration["limit"] = limit if math.isfinite(limit) else None
    rows = [
        row | {"flagged": row["p_value"] is not None and is_alarm(row["p_value"], rate)}
        for row in scores["scans"]
    ]
    return calibration, rows


def _write_scans(
    report: Path,
    scored: Path,
    rows: list[Row],
    cases: Mapping[str, Case],
    calibration: dict[str, Any],
    progress: Callable[[int, int], None],
    read: Callable[[Case, bool], CheckedScan],
    pages: Mapping[str, Row],
) -> None:
    """Writes pages of scans and their shared files; adds page and thumbnail to each row."""
    wanted = {row["case"] for row in rows}
    for old in (report / "scans").glob("*.html"):
        if old.stem not in wanted:
            old.unlink()
    if not rows:
        return
    write_viewer(report)
    for number, row in enumerate(rows, start=1):
        case, neighbours = cases[row["case"]], _neighbours(rows, row)
        if case.case in pages:
            row |= pages[case.case]
            _link(report / row["page"], row, neighbours)
        else:
            maps = read_maps(read(case, False).volumes[0], scored, row)
            write_scan(report, row, case, maps, calibration, neighbours)
        progress(number, len(rows))


def _link(path: Path, row: Row, neighbours: Neighbours) -> None:
    """Links a page that is written with its neighbours, which were not known then."""
    text = path.read_text(encoding="utf-8")
    begin = text.index(_NAV)
    end = text.index("</nav>", begin) + len("</nav>")
    linked = text[:begin] + render("nav.html.j2", row=row, neighbours=neighbours) + text[end:]
    if linked != text:
        write_atomic(path, linked)


def as_read(regions: Sequence[Row]) -> list[dict[str, str]]:
    """Rows of regions as they are read from regions.csv."""
    return [{k: "" if v is None else str(v) for k, v in row.items()} for row in regions]


def write_viewer(report: Path) -> None:
    """Writes the script of the 3D view, which the pages of scans share."""
    shipped = files("medgan.reporting") / "niivue"
    script = gzip.decompress((shipped / "niivue.umd.js.gz").read_bytes())
    write_atomic(report / "niivue" / "niivue.umd.js", script)
    write_atomic(report / "niivue" / "LICENSE.txt", (shipped / "LICENSE.txt").read_bytes())


def write_scan(
    report: Path,
    row: Row,
    case: Case,
    maps: Maps,
    calibration: dict[str, Any],
    neighbours: Neighbours,
) -> None:
    """Writes the page of a scan; adds `page` and `thumbnail` to its row.

    Args:
        report: folder of the pages.
        row: with `flagged` and `regions_found`.
        case: of the scan, which may know of a lesion.
        maps: the scan's first channel and what was made of it.
        calibration: as `flagged` gives it.
        neighbours: other pages of the same group.
    """
    maps = maps._replace(lesion=_lesion(case, maps.scan))
    page = scan_page(row, row["regions_found"], maps, calibration, neighbours)
    row["page"] = f"scans/{row['case']}.html"
    row["thumbnail"] = thumbnail_of(maps, calibration["level"])
    write_atomic(report / row["page"], page)


def _neighbours(rows: list[Row], row: Row) -> Neighbours:
    """Pages before and after a scan's; comparable scans and the others are two groups."""
    group = [other["case"] for other in rows if other["comparable"] == row["comparable"]]
    names = ["", *(f"{case}.html" for case in group), ""]
    number = group.index(row["case"])
    return Neighbours(names[number], names[number + 2])


def read_maps(scan: Volume, scored: Path, row: Row) -> Maps:
    """The volumes of a scored scan from their files.

    Args:
        scan: its first channel.
        scored: folder of the maps.
        row: which names them.
    """
    recon, heat, regions = (Volume.load(scored / row[k]) for k in ("recon", "map", "regions"))
    return Maps(scan, recon, heat, regions)


def _lesion(case: Case, scan: Volume) -> Volume | None:
    """The known lesion of a test case, from the column lesion_mask of its table."""
    path = Path(case.covariates.get("lesion_mask", ""))
    if not path.is_file():
        return None
    mask = Volume.load(path)
    return mask if mask.data.shape == scan.data.shape else None


def _read_csv(path: Path) -> list[dict[str, str]]:
    return read_table(path, path.name) if path.is_file() else []
