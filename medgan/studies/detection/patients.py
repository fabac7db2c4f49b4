"""Real lesions: maps of patients against their lesion masks, beside floors."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medgan.anomaly.scorers import available, chosen
from medgan.core.config import LesionsConfig
from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.progress import counting
from medgan.core.table_files import table_text
from medgan.data.checks import CheckedScan
from medgan.data.manifest import Case, Manifest, Refusal
from medgan.data.prepare import PreparedScan
from medgan.data.reading import Refuse, log_refusals, read_case, usable
from medgan.evaluation.detection.lesionwise import Found, find_lesions
from medgan.evaluation.detection.metrics import dice
from medgan.evaluation.detection.voxel_curve import voxel_curve
from medgan.model.model import Model
from medgan.reporting.patient_examples import PatientExample, plot_patients
from medgan.reporting.slices import aspect_of
from medgan.studies.detection.patient_maps import OwnMap, PatientMaps, foreground
from medgan.studies.detection.patient_report import best_row, csv_rows, summary
from medgan.studies.detection.patient_results import MapResult, PatientResult

T = TypeVar("T")
log = logging.getLogger(__name__)
REPORT, TABLE, PICTURE = "patients.json", "patients.csv", "patients.png"
COMPARED = ("localiser", "restoration", "density", "residual")
"""Scorers with a row of their own unless `lesions.scorers` names others."""
SHOWN = 12
"""Scans in the picture."""


@dataclass(frozen=True)
class _Seen:
    """A scan that was evaluated, and what the picture may need of it."""

    result: PatientResult
    scan: np.ndarray
    truth: np.ndarray
    heats: dict[str, np.ndarray]
    aspect: float


def run_patients(
    model: Model,
    patients: Manifest,
    healthy: Manifest | None,
    out: Path,
    settings: LesionsConfig,
    refuse: Refuse = log_refusals,
    read: Callable[[Case], CheckedScan] = read_case,
) -> dict[str, Any]:
    """Evaluates the model's map, single scorers and floors on masks of real lesions.

    Args:
        model: calibrated.
        patients: scans with label maps.
        healthy: the calibration split of it gives thresholds, and floors their mean and spread; of
            its test split false alarms are reported. None leaves these out.
        out: receives patients.json, patients.csv, a row a scan and map, and a picture.
        settings: the lesions section.
        refuse: receives scans that cannot be used; they are left out.
        read: gives the checked files of a patient.

    Returns:
        Rows, scans and the tables as Markdown.

    Raises:
        ConfigError: E_SCORER for a scorer that the model does not have.
        DataError: E_NO_SCANS where no scan with a label map is left, E_CALIBRATION with too few
            healthy scans.
        ModelError: E_UNCALIBRATED.
    """
    maps = _learn(model, healthy, settings, refuse)
    cases = [case for case in patients.cases if case.label]
    refuse([_without_mask(case) for case in patients.cases if not case.label])
    with counting("scoring patients") as tick:
        found, refusals = usable(
            cases, lambda case: _evaluate(model, maps, case, read(case), settings.values)
        )
        seen = list(_ticked(found, tick, len(cases)))
    refuse(refusals)
    if not seen:
        raise DataError(
            "E_NO_SCANS", "the patients", "no scan with a lesion mask is left",
            "name scans with label maps, as `medgan check` finds them",
        )  # fmt: skip
    results = [one.result for one in seen]
    false_alarms = list(_healthy(model, maps, healthy, refuse)) if healthy else []
    values = summary(results, maps.rows, false_alarms)
    values["protocol"] = settings.model_dump(exclude={"healthy"}) | {
        "patients_digest": patients.digest,
        "healthy_digest": healthy.digest if healthy else None,
        "calibration_scans": len(_split(healthy, "calibration")),
        "model": model.facts,
    }
    write_atomic(out / REPORT, json.dumps(values, indent=1))
    write_atomic(out / TABLE, table_text(csv_rows(results)))
    shown = best_row(values["rows"])
    plot_patients(out / PICTURE, _examples(seen, shown), shown)
    return values


def _without_mask(case: Case) -> Refusal:
    return Refusal(
        case.case, "E_MASK", "there is no mask of its lesions",
        "add one as its label map, empty where there is no lesion, or leave the scan out",
    )  # fmt: skip


def _learn(
    model: Model, healthy: Manifest | None, settings: LesionsConfig, refuse: Refuse
) -> PatientMaps:
    """The maps, with what healthy calibration scans say of them."""
    alone = model.needed_calibration.scoring_config.scorers
    networks = model.scoring_networks()
    possible = available(networks)
    names = tuple(n for n in COMPARED if n in possible and (n,) != alone)
    if settings.scorers:
        names = chosen(networks, settings.scorers)
    cases = _split(healthy, "calibration")
    scans, refusals = _prepared(model, cases)
    with counting("healthy calibration scans") as tick:
        maps = PatientMaps(model, names if cases else (), _ticked(scans, tick, len(cases)))
    refuse(refusals)
    return maps


def _prepared(model: Model, cases: Sequence[Case]) -> tuple[Iterator[PreparedScan], list[Any]]:
    return usable(cases, lambda case: model.prepare(read_case(case, False), case.case))


def _ticked(found: Iterator[T], tick: Callable[[int, int], None], count: int) -> Iterator[T]:
    for number, one in enumerate(found, start=1):
        yield one
        tick(number, count)


def _split(manifest: Manifest | None, name: str) -> list[Case]:
    return [case for case in manifest.split(name) if case.healthy] if manifest else []


def _healthy(
    model: Model, maps: PatientMaps, healthy: Manifest, refuse: Refuse
) -> Iterator[PatientResult]:
    """Scores and maps of healthy test scans, in which whatever is found is a false alarm."""
    cases = _split(healthy, "test")

    def score(case: Case) -> PatientResult:
        scan = model.prepare(read_case(case, False), case.case)
        score, found = maps(scan, case)
        within, voxel_mm3 = foreground(scan), float(np.prod(scan.source[0].spacing))
        nothing = np.zeros(within.shape, bool)
        results = {n: _map_result(one, nothing, within, voxel_mm3) for n, one in found.items()}
        return PatientResult.of(case, score, 0.0, results)

    results, refusals = usable(cases, score)
    with counting("healthy test scans") as tick:
        yield from _ticked(results, tick, len(cases))
    refuse(refusals)


def _evaluate(
    model: Model, maps: PatientMaps, case: Case, scan: CheckedScan, values: Sequence[int]
) -> _Seen:
    """One scan: metrics of every map against its mask."""
    assert scan.label is not None
    label = scan.label.volume.data
    truth = np.isin(label, values) if values else label > 0
    prepared = model.prepare(scan, case.case)
    score, found = maps(prepared, case)
    within = foreground(prepared) | truth
    voxel_mm3 = float(np.prod(scan.label.volume.spacing))
    results = {name: _map_result(one, truth, within, voxel_mm3) for name, one in found.items()}
    result = PatientResult.of(case, score, float(truth.sum()) * voxel_mm3 / 1000, results)
    image = scan.volumes[0].canonical()
    mask = scan.volumes[0].like(truth.astype(np.uint8)).canonical().data
    at = int(mask.sum(axis=(0, 1)).argmax()) if truth.any() else mask.shape[2] // 2
    heats = {
        name: scan.volumes[0].like(one.data).canonical().data[:, :, at].copy()
        for name, one in found.items()
    }
    return _Seen(
        result, image.data[:, :, at].copy(), mask[:, :, at] > 0, heats,
        aspect_of(2, image.spacing),
    )  # fmt: skip


def _map_result(one: OwnMap, truth: np.ndarray, within: np.ndarray, voxel_mm3: float) -> MapResult:
    """Metrics of one map; those of voxels only where there are both kinds."""
    overlaps: dict[str, float] = {}
    found: dict[str, Found] = {}
    for name, threshold in one.thresholds._asdict().items():
        if np.isnan(threshold):
            continue
        above = (one.data > threshold) & within
        found[name] = find_lesions(above, truth, voxel_mm3)
        if truth.any():
            overlaps[name] = dice(above, truth)
    if not truth.any() or truth[within].all():
        return MapResult(overlaps, found)
    curve = voxel_curve(one.data, truth, within)
    best, threshold = curve.best_dice
    return MapResult(
        overlaps, found, curve.auroc, curve.average_precision, curve.prevalence, best, threshold
    )


def _examples(seen: Sequence[_Seen], name: str) -> list[PatientExample]:
    """Scans at equal steps of rank, from the lowest average precision over prevalence up."""
    lesioned = [one for one in seen if not np.isnan(one.result.ratio(name))]
    order = sorted(lesioned, key=lambda one: one.result.ratio(name))
    picked = np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)
    return [
        PatientExample(one.result.title(name), one.scan, one.truth, one.heats[name], one.aspect)
        for one in (order[n] for n in picked)
    ]
