"""What the worker does for a request: a scan scored, or scans drawn, as files and JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from medgan.core.config import ScoreConfig
from medgan.core.errors import ModelError
from medgan.core.files import write_atomic
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan, check_scan
from medgan.data.conditions import Value, check
from medgan.data.manifest import Case
from medgan.deployment.followed_model import Current
from medgan.model.outputs import ScanScore
from medgan.reporting.scan import Maps, scan_page
from medgan.reporting.site import flagged
from medgan.workflows.scan_score import MAP_TEXT, region_rows, score_row
from medgan.workflows.score import summary_of
from medgan.workflows.synthetic_scan import MARK, image_files, save_synthetic

MAP, PAGE = "map.nii.gz", "page.html"
NOTE = "Research use only. A low p-value means unusual among healthy scans, not disease."


@dataclass(frozen=True)
class Made:
    """What a task made.

    Attributes:
        answer: JSON.
        files: in its folder, by the names under which they are asked for.
    """

    answer: dict[str, Any]
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Wanted:
    """What a scoring is to give beside the score: the map, the page."""

    map: bool = True
    page: bool = True


def score(
    current: Current,
    case: Case,
    scan: CheckedScan,
    notes: Sequence[str],
    folder: Path,
    wanted: Wanted,
    settings: ScoreConfig,
) -> Made:
    """Scores a scan.

    Args:
        current: model and version.
        case: as the reader gave it.
        scan: likewise.
        notes: what the reader corrected.
        folder: receives the files.
        wanted: which.
        settings: of scoring.

    Raises:
        MedganError: as `Model.score`.
    """
    model = current.model
    covariates = model.needed_calibration.covariates_of(case)
    prepared = model.prepare(scan, case.case)
    result = model.score(prepared, None, settings.smallest_mm3, covariates)
    regions = region_rows(case.case, result)
    row = score_row(case.case, case.subject, result)
    calibration, (row, *_) = flagged({**summary_of(model, settings.false_alarms), "scans": [row]})
    files = {}
    if wanted.map:
        files[MAP] = folder / MAP
        values = result.score_map.data.astype(np.float32, copy=False)
        result.score_map.like(values).save(files[MAP], MAP_TEXT)
    if wanted.page:
        files[PAGE] = folder / PAGE
        page = scan_page(row, regions, _maps(scan, result), calibration)
        write_atomic(files[PAGE], page, private=True)
    answer = {
        "case": case.case,
        "score": row["score"],
        "p_value": row["p_value"],
        "comparable": row["comparable"],
        "reasons": list(result.reasons),
        "explanation": row["explanation"],
        "parts": {name: round(value, 5) for name, value in result.parts.items()},
        "level": calibration["level"],
        "calibration_scans": len(calibration["scores"]),
        "regions": [_region(one) for one in result.regions],
        "remarks": [*result.remarks, *(note.what for note in scan.notes), *notes],
    }
    return Made(answer, files)


def _maps(scan: CheckedScan, result: ScanScore) -> Maps:
    assert result.region_map is not None
    return Maps(scan.volumes[0], result.recon, result.score_map, result.region_map)


def _region(region: Any) -> dict[str, Any]:  # noqa: ANN401 - a Region
    """A region as JSON, lengths in mm along R, A, S."""
    values = asdict(region)
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - of a region
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value


def warm_up(current: Current) -> None:
    """Uses a model once, so that its first request takes no longer than others.

    Libraries load what they need at their first use. What fails here is told to who asks for it.
    """
    model, grid = current.model, current.model.preprocessing
    with suppress(Exception), TemporaryDirectory() as made:
        if model.networks.synthesises:
            generate(current, Drawing(1, 0, 0, {}, 0.0, ""), Path(made), lambda: False)
        noise = np.random.default_rng(0).random(grid.shape, np.float32)
        volume = Volume(1000 * noise, np.diag([*grid.spacing, 1.0]))
        file = Path(made) / "noise.nii.gz"
        volume.save(file)
        scan = check_scan(dict.fromkeys(grid.channels, file), None, "noise")
        result = model.score(model.prepare(scan))
        assert result.region_map is not None
        scan_page(
            score_row("noise", "noise", result) | {"flagged": False}, [], _maps(scan, result),
            summary_of(model, 0.0)["calibration"],
        )  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """Which synthetic scans are asked for; as `Model.generate`."""

    count: int
    seed: int
    first: int
    conditions: Mapping[str, Value]
    truncation: float
    text: str


def generate(current: Current, asked: Drawing, folder: Path, given_up: Callable[[], bool]) -> Made:
    """Draws synthetic scans.

    Args:
        current: model and version.
        asked: which.
        folder: receives images and label maps.
        given_up: whether nobody waits any more; looked at between two scans.

    Raises:
        ModelError: E_GENERATOR.
        ConfigError: E_CONDITION, E_TEXT.
    """
    model = current.model
    if not model.networks.synthesises:
        raise ModelError("E_GENERATOR", "the model", "draws no scans", "serve a model of synthesis")
    remarks = check(model.preprocessing.conditions, asked.conditions)
    scans, files = [], {}
    drawn = model.iter_generate(
        asked.count, asked.seed, asked.first, conditions=asked.conditions,
        truncation=asked.truncation, text=asked.text,
    )  # fmt: skip
    for scan in drawn:
        name = f"synthetic-s{asked.seed}-{scan.number:05d}"
        image, label = folder / f"{name}.nii.gz", folder / f"{name}-label.nii.gz"
        save_synthetic(scan, image, label)
        images = {channel: path.name for channel, path in image_files(scan, image).items()}
        names = [*images.values(), *([label.name] if scan.label is not None else [])]
        files |= {name: folder / name for name in names}
        scans.append(
            {
                "seed": scan.seed,
                "number": scan.number,
                "conditions": scan.covariates,
                "images": images,
                "label": label.name if scan.label is not None else None,
            }
        )
        if given_up():
            break
    return Made({"synthetic": MARK, "scans": scans, "remarks": remarks}, files)
