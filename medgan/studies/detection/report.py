"""Report of the lesion benchmark: a row a scorer, tables and pictures."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.calibration import Calibration, ScoringConfig, calibrate
from medgan.core.tables import markdown_table
from medgan.data.lesions import CONTROL
from medgan.data.shape_library import LesionShape
from medgan.evaluation.detection.lesionwise import SIZES
from medgan.networks.localiser import Localiser
from medgan.reporting.lesion_examples import LesionExample
from medgan.studies.detection.protocol import BATCH, lesioned_scan
from medgan.studies.detection.results import METRICS, RATES, Lesion, Results
from medgan.studies.detection.scorers import ModelMaps

EXAMPLES = 10


@dataclass(frozen=True)
class Entry:
    """Results of one scorer.

    Attributes:
        results: on every lesion.
        seconds: to map one scan.
        own: whether it belongs to the model and not to the baselines.
    """

    results: Results
    seconds: float
    own: bool


@dataclass(frozen=True)
class Fold:
    """Families left out together.

    Attributes:
        localiser: that never saw these families; None is the model's own.
        maps: of the model with this localiser.
        results: on lesions of these families, by scorer or combination.
        volumes: scans or patches that this localiser saw; 0 for the model's own.
    """

    localiser: Localiser | None
    maps: ModelMaps
    results: dict[str, Results]
    volumes: int = 0


def row(
    name: str, entries: dict[str, Entry], kinds: Sequence[str] = ("family", "radius", "contrast")
) -> dict[str, Any]:
    """All metrics of one scorer, and its difference from the best baseline.

    Args:
        name: of the scorer.
        entries: all scorers by name.
        kinds: attributes of lesions, for each value of which there are metrics.
    """
    entry, results = entries[name], entries[name].results
    control = results.auroc(family=CONTROL).value if len(results.select(family=CONTROL)) else None
    found: dict[str, Any] = {
        "name": name,
        "own": entry.own,
        "seconds": round(entry.seconds, 4),
        "auroc": results.auroc().rounded(),
        "paired_auroc": results.paired_auroc().rounded(),
        **{metric: results.metric(metric).rounded() for metric in METRICS},
        "prevalence": round(float(np.nanmean(results.prevalence)), 4),
        "false_alarms": {str(rate): results.false_alarms(rate).rounded() for rate in RATES},
        "control_auroc": None if control is None else round(control, 4),
        "p_values": [round(float(p), 4) for p in results.p_values],
        "uniform_p": round(results.uniformity(), 4),
    }
    for kind in kinds:
        every = dict.fromkeys(getattr(t, kind) for t in results.lesions if t.family != CONTROL)
        found[f"by_{kind}"] = {
            str(value): {
                "lesions": len(results.select(**{kind: value})),
                "auroc": results.auroc(**{kind: value}).value,
                "average_precision": results.metric("average_precision", **{kind: value}).value,
                "sensitivity": results.metric("sensitivity", **{kind: value}).value,
            }
            for value in every
        }
    baselines = {n: e.results for n, e in entries.items() if not e.own}
    if entry.own and baselines:
        best = max(baselines, key=lambda n: baselines[n].auroc().value)
        found["auroc_difference"] = {
            "baseline": best, **results.auroc_difference(baselines[best]).rounded()
        }  # fmt: skip
        metric = "average_precision"
        best = max(baselines, key=lambda n: baselines[n].metric(metric).value)
        found[f"{metric}_difference"] = {
            "baseline": best, **results.metric_difference(baselines[best], metric).rounded()
        }  # fmt: skip
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table, highest AUROC first; scorers of the model are bold."""
    head = [
        "scorer", "AUROC (95%)", "paired AUROC", "average precision (95%)", "Dice",
        "region overlap", "sensitivity (FROC)", "false alarms at 0.05", "at 0.10",
        "seconds a scan",
    ]  # fmt: skip
    lines = []
    for one in sorted(rows, key=lambda r: -r["auroc"]["value"]):
        cells = [
            f"**{one['name']}**" if one["own"] else one["name"],
            _with_interval(one["auroc"]),
            f"{one['paired_auroc']['value']:.2f}",
            _with_interval(one["average_precision"]),
            *(f"{one[m]['value']:.2f}" for m in ("dice", "region_overlap", "sensitivity")),
            *(f"{one['false_alarms'][str(rate)]['value']:.3f}" for rate in RATES),
            f"{one['seconds']:.3f}",
        ]
        lines.append(cells)
    return markdown_table(head, lines)


def size_table(rows: Sequence[dict[str, Any]]) -> str:
    """AUROC, average precision and sensitivity by the volume of the lesion, as Markdown."""
    sizes = sorted(rows[0]["by_size"].items(), key=lambda item: SIZES.index(item[0]))
    head = ["AUROC / average precision / sensitivity"]
    head += [f"{name} ({one['lesions']})" for name, one in sizes]
    lines = []
    for one in sorted(rows, key=lambda r: -r["auroc"]["value"]):
        found = [one["by_size"][name] for name, _ in sizes]
        metrics = ("auroc", "average_precision", "sensitivity")
        lines.append([one["name"], *(" / ".join(f"{m[k]:.2f}" for k in metrics) for m in found)])
    return markdown_table(head, lines)


def _with_interval(metric: dict[str, float]) -> str:
    return f"{metric['value']:.2f} ({metric['low']:.2f} to {metric['high']:.2f})"


def lesion_table(results: Results) -> str:
    """A CSV row a lesion: its parameters, and the results of one scorer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Lesion._fields, "above_others", "above_same_scan", *METRICS])
    for lesion, *values in zip(
        results.lesions, results.others, results.own, results.metrics, strict=True
    ):
        writer.writerow([*lesion, *(f"{value:.4f}" for value in np.hstack(values))])
    return text.getvalue()


def examples(
    folds: Sequence[Fold],
    calibration: Tensor,
    test: Tensor,
    name: str,
    scorers: tuple[str, ...],
    seed: int,
    shapes: Sequence[LesionShape] = (),
) -> list[LesionExample]:
    """Ten lesions at equal steps of rank, from the lowest to the highest average precision.

    Args:
        folds: with the lesions.
        calibration: healthy volumes, (M, 1, X, Y, Z).
        test: healthy volumes, (N, 1, X, Y, Z).
        name: of the scorer or combination that is shown.
        scorers: combined in it.
        seed: of the lesions.
        shapes: of real lesions, which some of them have.
    """
    ranked = sorted(
        (float(metrics[0]), number, line)
        for number, fold in enumerate(folds)
        for line, metrics in enumerate(fold.results[name].metrics)
        if np.isfinite(metrics[0])
    )
    picked = np.linspace(0, len(ranked) - 1, min(EXAMPLES, len(ranked))).round().astype(int)
    calibrations: dict[int, Calibration] = {}
    found = []
    for precision, number, line in (ranked[n] for n in picked):
        fold = folds[number]
        if number not in calibrations:
            parts = [fold.maps(part) for part in calibration.split(BATCH)]
            healthy = {n: torch.cat([part[n] for part in parts]) for n in scorers}
            calibrations[number] = calibrate(healthy, ScoringConfig(scorers))
        known, lesion = calibrations[number], fold.results[name].lesions[line]
        planted = lesioned_scan(test, lesion, seed, shapes)
        volume = torch.from_numpy(planted.volume)[None, None]
        _, heat, _ = known.score({n: m for n, m in fold.maps(volume).items() if n in scorers})
        recon = fold.maps.recon(volume)[0, 0].numpy()
        size = lesion.size or f"{lesion.radius:g} voxels, {lesion.contrast}"
        title = f"{lesion.family}, {size}: {precision:.2f}"
        found.append(
            LesionExample(
                title, planted.volume, recon, heat[0, 0].numpy(), planted.truth, known.level
            )
        )
    return found
