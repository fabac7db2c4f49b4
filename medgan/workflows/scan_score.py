"""The score of one scan: its maps, its row of the table, the rows of its regions."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan.anomaly.regions import Region
from medgan.core.config import ScoreConfig
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan
from medgan.data.manifest import Case
from medgan.data.reading import read_case
from medgan.model.model import Model
from medgan.model.outputs import ScanScore
from medgan.reporting.scan import Maps
from medgan.workflows.bids import MAP, REGIONS
from medgan.workflows.executor.records import CaseRecords, Values
from medgan.workflows.pages import PageWork

Row = dict[str, Any]
MAP_TEXT = "medgan score map, healthy standard deviations"
RECON_TEXT = "medgan healthy counterpart"
REGIONS_TEXT = "medgan regions above the healthy level"


@dataclass(frozen=True)
class ScoreWork:
    """Scores a case, and writes its page while its files are at hand.

    The item of a task is the case, and the begin of the names of its files in a BIDS derivative.

    Attributes:
        records: of the scores, in their folder.
        settings: the score section.
        health_is_known: whether `healthy` of the cases is known.
        pages: writes pages; None where they are not written now.
        read: gives the checked files of a case.
    """

    records: CaseRecords
    settings: ScoreConfig
    health_is_known: bool = False
    pages: PageWork | None = None
    read: Callable[[Case], CheckedScan] = read_case

    def __call__(self, model: Model, item: tuple[Case, str]) -> tuple[Values, list[str]]:
        """The row and the rows of the regions of a case, and its files.

        Raises:
            DataError: why it cannot be scored.
        """
        case, bids = item
        scan, folder = self.read(case), self.records.folder
        row, regions, maps = score_case(
            model, case, scan, folder, self.settings, self.health_is_known, bids
        )
        if self.pages is not None:
            self.pages.write(case, maps, row, regions)
        named = [row["map"], row["recon"], row["regions"]]
        more = (f"recons/{case.case}_{name}.nii.gz" for name in model.preprocessing.channels[1:])
        files = [*named, *(name for name in more if (folder / name).is_file())]
        return {"row": row, "regions": regions}, files


def score_case(
    model: Model,
    case: Case,
    scan: CheckedScan,
    folder: Path,
    settings: ScoreConfig,
    health_is_known: bool = False,
    bids: str = "",
) -> tuple[Row, list[Row], Maps]:
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
        Its row of the table, without q-value and alarm, the rows of its regions, and the volumes.

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
    heat, recon, regions = (volume for volume, *_ in images[: len(files)])
    return row, region_rows(case.case, result), Maps(scan.volumes[0], recon, heat, regions)


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


def _region_row(case: str, region: Region) -> Row:
    row: Row = {"case": case, "region": region.number, "volume_mm3": round(region.volume_mm3, 2)}
    row |= {"peak": round(region.peak, 3), "mean": round(region.mean, 3)}
    for name, position in (("peak", region.peak_mm), ("centre", region.centre_mm)):
        row |= {f"{name}_{axis}_mm": round(v, 2) for axis, v in zip("ras", position, strict=True)}
    intensities = {"found": f"{region.found:.5g}", "expected": f"{region.expected:.5g}"}
    return {**row, "label": region.name, "place": region.place, **intensities}
