"""Scores of DICOM series as DICOM objects for the PACS that the series came from.

Scores contain no patient data. The series are read again and matched by their pseudonyms. The
objects contain patient data, so they are written to a separate folder.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from medgan.core.errors import ConfigError, DataError, MedganError
from medgan.core.files import disk_failure
from medgan.core.json_files import read_json_object
from medgan.core.version import __version__
from medgan.core.volume import Volume
from medgan.data.dicom.conversion import Conversion
from medgan.data.dicom.geometry import stack_slices
from medgan.data.dicom.objects import (
    check_extra,
    map_object,
    regions_object,
    save_private,
    summary_object,
)
from medgan.data.dicom.series import Series
from medgan.data.dicom.sources import Source
from medgan.data.layouts.layouts import list_scans
from medgan.data.manifest import Refusal
from medgan.data.pseudonyms import Pseudonyms
from medgan.reporting.summary_image import summary_image

log = logging.getLogger(__name__)
MAX_OFF_MM = 1e-3
"""Largest distance in mm between the voxels of a map and those of the series."""


def export_dicom(
    scores: Path,
    source: Path,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, list[Refusal]]:
    """Writes `<case>/map.dcm`, `regions.dcm` and `summary.dcm` of every scored series.

    For a scan that is not comparable with the calibration scans only the summary is written, with
    the reason; without regions there is no `regions.dcm`. A scan that cannot be written is refused,
    and the rest goes on.

    Args:
        scores: folder of a run that scored DICOM, or the folder of its scores.
        source: the DICOM that was scored.
        out: receives a folder for each scan, under pseudonyms; readable by the owner only.
        progress: called with the number of finished scans and of all scans.

    Returns:
        How many scans were written, and the refused ones.

    Raises:
        EnvironmentFailure: E_EXTRA, E_DISK.
        ConfigError: E_MISSING, E_USAGE.
        DataError: E_NO_SCANS and others of a data set, E_NO_SERIES when no scan is found.
    """
    check_extra()
    folder, summary = _read_scores(scores)
    if _inside(out, scores) or _inside(scores, out):
        raise ConfigError(
            "E_USAGE", "--out", "DICOM objects hold names of patients, and scores are shared",
            "choose a folder apart from the scores",
        )  # fmt: skip
    rows = summary["scans"]
    pseudonyms = Pseudonyms.of_site()
    refusals: list[Refusal] = []
    done = 0
    with Conversion(out) as conversion:
        found = [one for listed in list_scans(source) for one in conversion.expand(listed)]
        by_case = {pseudonyms.case(one.name): one.series for one in found}
        if not any(by_case.get(row["case"]) for row in rows):
            raise DataError(
                "E_NO_SERIES", "the source", "holds none of the series that were scored",
                "give the DICOM that was scored, on the machine that scored it",
            )  # fmt: skip
        _private_folder(out)
        for number, row in enumerate(rows, start=1):
            case = row["case"]
            try:
                series = by_case.get(case)
                if series is None:
                    raise DataError(
                        "E_NO_SERIES", case, "no series of the source is this scan",
                        "give all the DICOM that was scored; NIfTI has no series",
                    )  # fmt: skip
                _export_one(conversion, series, row, summary, folder, out / case)
                done += 1
            except DataError as error:
                refusals.append(Refusal(case, error.code, error.what, error.remedy))
            except MedganError:
                raise
            except Exception as error:  # of one scan, which must not stop the others
                log.debug("%s", case, exc_info=True)
                what = f"no DICOM object can be made ({type(error).__name__})"
                refusals.append(Refusal(case, "E_EXPORT", what, "use the NIfTI maps"))
            progress(number, len(rows))
    return done, refusals


def _read_scores(scores: Path) -> tuple[Path, dict[str, Any]]:
    for folder in (scores, scores / "scores"):
        path = folder / "scores.json"
        with suppress(FileNotFoundError, NotADirectoryError):
            try:
                return folder, read_json_object(path)
            except ValueError:
                raise ConfigError(
                    "E_MISSING", path.name, "damaged", "score the scans again"
                ) from None
    raise ConfigError("E_MISSING", str(scores), "holds no scores", "give the folder of a scoring")


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _private_folder(folder: Path) -> None:
    """Makes a folder that only its owner may enter."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
    except OSError as error:
        raise disk_failure(folder, error) from None


def _export_one(
    conversion: Conversion, series: Series, row: dict[str, Any], summary: dict[str, Any],
    scores: Path, out: Path,
) -> None:  # fmt: skip
    summary = summary.get("models", {}).get(row.get("calibration"), summary)  # of this scan
    case, model = row["case"], summary["model"]
    stack = stack_slices(series, case)
    scan, _ = conversion.volume(series, case)
    score_map, region_map = (_read_map(scores / row[kind], case) for kind in ("map", "regions"))
    for volume in (score_map, region_map):
        _check_grid(volume, scan, case)
    source = Source.read(stack, case)
    level = float(summary["calibration"]["level"])
    numbers = np.rint(region_map.data).astype(np.int16)
    made = {}
    if row["comparable"]:
        made["map"] = map_object(source, score_map.data, level, model)
        if numbers.any():
            made["regions"] = regions_object(source, numbers, model)
    made["summary"] = summary_object(source, summarise(row, scan, score_map, level), model)
    _private_folder(out)
    for name in ("map", "regions", "summary"):
        path = out / f"{name}.dcm"
        if name in made:
            save_private(made[name], path)
        else:  # possibly from an earlier scoring
            path.unlink(missing_ok=True)


def _read_map(path: Path, case: str) -> Volume:
    try:
        return Volume.load(path)
    except Exception:  # nibabel raises nearly anything
        raise DataError(
            "E_UNREADABLE", case, "its map is missing or damaged", "score it again"
        ) from None


def _check_grid(volume: Volume, scan: Volume, case: str) -> None:
    """Whether a map has the grid of the series."""
    shape = scan.data.shape
    if volume.data.shape == shape:
        corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)], dtype=float)
        corners[:, :3] *= np.array(shape) - 1
        off = (corners @ (volume.affine - scan.affine).T)[:, :3]
        if np.linalg.norm(off, axis=1).max() <= MAX_OFF_MM:
            return
    raise DataError(
        "E_NO_SERIES", case, "its map has another grid than the series", "score it again"
    )


def summarise(
    row: dict[str, Any], scan: Volume, score_map: Volume, level: float
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture of a summary: three planes through the highest peak, and the result.

    Args:
        row: of scores.json.
        scan: as converted.
        score_map: on its grid.
        level: threshold of the map.
    """
    shown = score_map.canonical() if row["comparable"] else None
    return summary_image(
        scan.canonical(), shown, level, result_text(row), f"medgan {__version__}, research use only"
    )


def result_text(row: dict[str, Any]) -> str:
    """A row of scores.json in two sentences."""
    if not row["comparable"]:
        return row["explanation"]
    text = f"Score {row['score']:.2f}, p = {row['p_value']:.3g}"
    if row["alarm"] is not None:
        text += ": ALARM" if row["alarm"] else ": no alarm"
    return f"{text}. {row['explanation']}"
