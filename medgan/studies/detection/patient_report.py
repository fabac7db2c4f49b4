"""Report on real lesions: metrics of each scan and map, medians over patients, groups, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgan.anomaly.alarms import is_alarm
from medgan.core.tables import markdown_table
from medgan.data.groups import ALL, by_group
from medgan.evaluation.detection.lesionwise import SIZES, size_of
from medgan.evaluation.interval import median_of_subjects, proportion
from medgan.studies.detection.patient_maps import OWN
from medgan.studies.detection.patient_results import PatientResult, by_subject
from medgan.studies.detection.results import RATES

FEW = 10
"""Up to so many scans are listed one by one."""
METRICS = (
    *("voxel_auroc", "average_precision", "precision_ratio", "dice_voxels", "dice_regions"),
    *("dice_best", "false_alarms_voxels", "false_alarms_regions", "false_ml_voxels"),
)
"""Metrics of a scan whose medians over patients are reported."""


def summary(
    results: Sequence[PatientResult], rows: Sequence[str], healthy: Sequence[PatientResult]
) -> dict[str, Any]:
    """Everything that is written: rows, scans, groups, and the tables as Markdown.

    Args:
        results: of the patients.
        rows: names of the maps.
        healthy: scores of healthy scans that nothing was calibrated on.
    """
    values: dict[str, Any] = {
        "rows": [_row(name, results, rows) for name in rows],
        "scans": [one.as_json() for one in results],
        "groups": _groups(results, rows),
        "false_alarms": _alarms(healthy, rows),
    }
    tables = (
        _table(values["rows"]),
        _group_table(values["groups"]),
        _scan_table(results),
        _alarm_table(values),
    )
    values["table"] = "\n\n".join(filter(None, tables))
    return values


def csv_rows(results: Sequence[PatientResult]) -> list[dict[str, Any]]:
    """A row a scan and map."""
    found = []
    for one in results:
        facts = one.as_json()
        facts |= {"reasons": "; ".join(facts["reasons"]), "groups": ", ".join(facts["groups"])}
        for name, result in one.maps.items():
            lesions = next((len(f.found) for f in result.found.values()), None)
            metrics = {k: _plain(v) for k, v in result.metrics().items()}
            found.append({**facts, "lesions": lesions, "map": name, **metrics})
    return found


def best_row(rows: Sequence[Mapping[str, Any]]) -> str:
    """The row with the highest median of average precision over prevalence."""
    return max(rows, key=_median_ratio)["name"]


def _median_ratio(row: Mapping[str, Any]) -> float:
    """Below all others where no patient has a lesion."""
    return -1.0 if row["precision_ratio"] is None else row["precision_ratio"]["value"]


def _row(name: str, results: Sequence[PatientResult], rows: Sequence[str]) -> dict[str, Any]:
    """Medians over patients of one map, lesions found by size, and the gain of the model's."""

    def of(row: str, metric: str) -> np.ndarray:
        return by_subject(results, lambda one: one.maps[row].metrics()[metric])

    found: dict[str, Any] = {"name": name}
    found |= {metric: _interval(of(name, metric)) for metric in METRICS}
    found["prevalence"] = _interval(of(name, "prevalence"))
    found["lesions"] = {
        threshold: _sizes(results, name, threshold) for threshold in ("voxels", "regions")
    }
    if name == OWN:
        found["ratio_minus"] = {
            other: _interval(of(OWN, "precision_ratio") - of(other, "precision_ratio"))
            for other in rows
            if other != OWN
        }
    return found


def _sizes(
    results: Sequence[PatientResult], row: str, threshold: str
) -> dict[str, dict[str, int]] | None:
    """Lesions of all scans and those that were found, by size; None without this threshold."""
    known = [one.maps[row].found[threshold] for one in results if threshold in one.maps[row].found]
    if not known:
        return None
    counts = {name: {"found": 0, "lesions": 0} for name in (ALL, *SIZES)}
    for part in known:
        for ml, hit in zip(part.millilitres, part.found, strict=True):
            for name in (ALL, size_of(ml)):
                counts[name]["lesions"] += 1
                counts[name]["found"] += hit
    return {name: count for name, count in counts.items() if count["lesions"]}


def _groups(results: Sequence[PatientResult], rows: Sequence[str]) -> dict[str, Any]:
    """Medians of each group of age and sex."""
    metrics = ("voxel_auroc", "precision_ratio", "false_alarms_voxels", "false_alarms_regions")
    found: dict[str, Any] = {}
    for name, some in by_group(results, lambda one: one.groups).items():
        if name == ALL:
            continue
        found[name] = {"subjects": len({one.subject for one in some})}
        for row in rows:
            found[name][row] = {
                metric: _interval(by_subject(some, lambda r: r.maps[row].metrics()[metric]))  # noqa: B023
                for metric in metrics
            }
    return found


def _alarms(healthy: Sequence[PatientResult], rows: Sequence[str]) -> dict[str, Any]:
    """False alarms among healthy scans, all and by group.

    Scans that raise an alarm by their p-value, where they have one; and the median number of parts
    of each map above its thresholds.
    """
    found: dict[str, Any] = {}
    for name, some in by_group(healthy, lambda one: one.groups).items():
        p_values = [one.p_value for one in some if one.p_value is not None]
        if not p_values:
            continue
        found[name] = {"scans": len(some), "not_comparable": len(some) - len(p_values)}
        for rate in RATES:
            alarms = sum(is_alarm(p, rate) for p in p_values)
            found[name][str(rate)] = proportion(alarms, len(p_values)).rounded()
        found[name]["parts"] = {
            row: {
                threshold: _interval(
                    by_subject(some, lambda r: r.maps[row].metrics()[f"false_alarms_{threshold}"])  # noqa: B023
                )
                for threshold in ("voxels", "regions")
            }
            for row in rows
        }
    return found


def _interval(values: np.ndarray) -> dict[str, float | None] | None:
    found = median_of_subjects(values)
    return None if found is None else {k: _plain(v) for k, v in found.rounded().items()}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 5)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Medians over patients, the highest average precision over prevalence first."""
    head = [
        "map", "voxel AUROC", "average precision", "/ prevalence", "Dice", "best Dice (oracle)",
        "lesions found", "false alarms a scan", "above the level of regions: found", "false alarms",
    ]  # fmt: skip
    lines = [
        [
            f"**{row['name']}**" if row["name"] == OWN else row["name"],
            _cell(row["voxel_auroc"]),
            _cell(row["average_precision"], 3),
            _cell(row["precision_ratio"], 1),
            _cell(row["dice_voxels"]),
            _cell(row["dice_best"]),
            _count(row["lesions"]["voxels"]),
            _cell(row["false_alarms_voxels"], 1),
            _count(row["lesions"]["regions"]),
            _cell(row["false_alarms_regions"], 1),
        ]
        for row in sorted(rows, key=_median_ratio, reverse=True)
    ]
    return markdown_table(head, lines)


def _group_table(groups: Mapping[str, Any]) -> str:
    """The model's metrics by age and sex, where these are known."""
    head = [
        "patients", "number", "voxel AUROC", "/ prevalence", "false alarms a scan",
        "above the level of regions",
    ]  # fmt: skip
    lines = [
        [
            name,
            group["subjects"],
            _cell(group[OWN]["voxel_auroc"]),
            _cell(group[OWN]["precision_ratio"], 1),
            _cell(group[OWN]["false_alarms_voxels"], 1),
            _cell(group[OWN]["false_alarms_regions"], 1),
        ]
        for name, group in groups.items()
    ]
    return markdown_table(head, lines) if lines else ""


def _scan_table(results: Sequence[PatientResult]) -> str:
    """Each scan, where there are few."""
    if len(results) > FEW:
        return ""
    rows = list(results[0].maps)
    head = ["scan", "lesion ml", "p-value", *(f"{name}: AUROC, AP / prevalence" for name in rows)]
    lines = []
    for one in results:
        p_value = "not comparable" if one.p_value is None else f"{one.p_value:.3g}"
        found = [one.maps[name].metrics() for name in rows]
        cells = [f"{m['voxel_auroc']:.2f}, {m['precision_ratio']:.1f}" for m in found]
        lines.append([one.case, f"{one.millilitres:.1f}", p_value, *cells])
    return markdown_table(head, lines)


def _alarm_table(values: Mapping[str, Any]) -> str:
    """False alarms of healthy test scans."""
    alarms = values["false_alarms"]
    head = ["healthy test scans", "number", *(f"alarms at {rate:g}" for rate in RATES)]
    head.append("parts of a map above the level of regions")
    lines = [
        [
            name,
            one["scans"],
            *(_cell(one[str(rate)], 3) for rate in RATES),
            _cell(one["parts"][OWN]["regions"], 1),
        ]
        for name, one in alarms.items()
    ]
    return markdown_table(head, lines) if lines else ""


def _cell(metric: Mapping[str, float | None] | None, digits: int = 2) -> str:
    if metric is None or metric["value"] is None:
        return ""
    text = f"{metric['value']:.{digits}f}"
    if metric["low"] is None:
        return text
    return f"{text} ({metric['low']:.{digits}f} to {metric['high']:.{digits}f})"


def _count(sizes: Mapping[str, Mapping[str, int]] | None) -> str:
    return f"{sizes[ALL]['found']} of {sizes[ALL]['lesions']}" if sizes else ""
