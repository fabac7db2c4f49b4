"""The super-resolution benchmark: interpolation and networks against fine scans."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.core.config import Preprocessing, ResolutionConfig
from medgan.core.errors import ConfigError, ModelError
from medgan.core.files import write_atomic
from medgan.core.progress import counting
from medgan.core.tables import markdown_table
from medgan.data.acquisition import Acquisition, Interpolation
from medgan.data.batches import PreparedVolumes
from medgan.data.manifest import Manifest
from medgan.data.prepared import enough_preparable
from medgan.data.reading import Refuse, log_refusals
from medgan.evaluation.interval import by_subject, paired_difference
from medgan.model.model import Model
from medgan.model.super_resolution import TASK, restored
from medgan.reporting.resolution_examples import ResolutionExample, plot_resolution
from medgan.studies.super_resolution.protocol import Example, Image, Method, Metrics
from medgan.studies.super_resolution.segmenter import Segmenter

log = logging.getLogger(__name__)
REPORT, PICTURE = "super_resolution.json", "super_resolution.png"
OURS, DECONVOLVED = "model", "cubic, projected"
FEWEST = 5
Row = dict[str, Any]


def run_super_resolution(
    models: Mapping[str, Model],
    manifest: Manifest,
    out: Path,
    settings: ResolutionConfig,
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Measures models on thick slices of test scans; writes super_resolution.json and a picture.

    Args:
        models: trained for super-resolution of one channel, by the names of their rows; that of
            `OURS` is compared with all methods.
        manifest: with splits; a segmenter learns from the training scans where they have labels.
        out: receives cache, super_resolution.json and super_resolution.png.
        settings: the resolution section.
        refuse: receives scans that cannot be prepared; they are left out.

    Returns:
        rows, the table as Markdown, and the protocol.

    Raises:
        ModelError: E_TRANSLATOR for a model of another task.
        ConfigError: E_GRID when models differ in grid or intensities.
        DataError: E_SPLIT with too few test scans.
    """
    grid = _common_grid(models)
    cases = enough_preparable(manifest, "test", FEWEST, grid, out, refuse)
    volumes = PreparedVolumes(cases, grid, out / "cache")
    labelled = Segmenter.trained(manifest.split("train"), grid, out)
    methods = {**_INTERPOLATIONS, DECONVOLVED: _deconvolved}
    methods |= {name: _network(model) for name, model in models.items() if name != OURS}
    methods[OURS] = _network(models[OURS])
    found: dict[tuple[float, str], list[Metrics]] = {}
    shown: list[tuple[float, ResolutionExample]] = []
    fine: list[float] = []
    with counting("scans") as tick:
        for number in range(len(volumes)):
            data, label = volumes.arrays(number)
            truth = np.nan_to_num(data[0], nan=-1)

            def dice(image: Image, label: np.ndarray | None = label) -> float:
                return np.nan if labelled is None else labelled.dice(image, label)

            fine.append(dice(truth))
            for factor in settings.factors:
                example = Example.of(truth, number, factor, settings.gap, settings.noise)
                made = {name: example.measure(one, dice) for name, one in methods.items()}
                for name, (metrics, _) in made.items():
                    found.setdefault((factor, name), []).append(metrics)
                if factor == _shown_factor(settings.factors):
                    shown.append(_picture(example, made))
            tick(number + 1, len(volumes))
    plot_resolution(out / PICTURE, _from_worst_to_best(shown))
    rows = [
        _row(factor, name, found[factor, name], found[factor, OURS])
        for factor in settings.factors
        for name in methods
    ]
    result = {
        "protocol": {
            **settings.model_dump(mode="json"),
            "test_scans": len(cases),
            "dice_of_fine_scans": None if labelled is None else round(float(np.nanmean(fine)), 4),
            "picture_factor": _shown_factor(settings.factors),
            "spacing": list(grid.spacing),
            "data_digest": manifest.digest,
            "models": {name: model.digest for name, model in models.items()},
        },
        "rows": rows,
        "table": table(rows),
    }
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    return result


def _common_grid(models: Mapping[str, Model]) -> Preprocessing:
    """The preprocessing of all models but for the shape of their patches."""
    grid = models[OURS].preprocessing
    for name, model in models.items():
        task = model.networks.needed_translator.conversion.task
        if task != TASK:
            raise ModelError(
                "E_TRANSLATOR", name, f"was trained for {task}",
                "give a model of train.task super_resolution",
            )  # fmt: skip
        if _images(model.preprocessing) != _images(grid):
            raise ConfigError(
                "E_GRID", name, "has another grid or other intensities",
                "train it with the same data section",
            )  # fmt: skip
    return grid


def _images(preprocessing: Preprocessing) -> dict[str, Any]:
    """What decides how an image looks; patches may differ."""
    return preprocessing.model_dump(exclude={"shape", "labels", "conditions"})


def _interpolated(method: Interpolation) -> Method:
    def interpolate(slices: np.ndarray, acquisition: Acquisition) -> np.ndarray:
        return acquisition.interpolate(slices, method).clip(-1, 1)

    return interpolate


_INTERPOLATIONS: dict[str, Method] = {
    "cubic": _interpolated("cubic"),
    "windowed sinc": _interpolated("sinc"),
}


def _deconvolved(slices: np.ndarray, acquisition: Acquisition) -> np.ndarray:
    return acquisition.deconvolved(slices)


def _network(model: Model) -> Method:
    def restore(slices: np.ndarray, acquisition: Acquisition) -> np.ndarray:
        drawn = restored(model, slices[None], acquisition)
        return acquisition.project(drawn[0, 0], slices)

    return restore


def _shown_factor(factors: Sequence[float]) -> float:
    return sorted(factors)[len(factors) // 2]


def _picture(
    example: Example, made: Mapping[str, tuple[Metrics, Image]]
) -> tuple[float, ResolutionExample]:
    """The example for the picture, and what it is ordered by."""
    nearest = example.acquisition.interpolate(example.slices, "nearest")
    names = [name for name in made if name not in ("windowed sinc", DECONVOLVED)]
    images = {"slices": nearest, **{name: made[name][1] for name in names}, "fine": example.truth}
    own = made[OURS][0].psnr
    title = "  ".join(f"{name}: {made[name][0].psnr:.1f} dB" for name in names)
    return own, ResolutionExample(title, example.axis, images)


def _from_worst_to_best(
    shown: list[tuple[float, ResolutionExample]], count: int = 4
) -> list[ResolutionExample]:
    """Examples at equal steps of rank."""
    order = sorted(shown, key=lambda one: one[0])
    at = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [order[number][1] for number in at]


def _row(factor: float, name: str, results: Sequence[Metrics], ours: Sequence[Metrics]) -> Row:
    """Means of one method with intervals over scans, and how much more the model has."""
    values, own = (np.array(part, dtype=float) for part in (results, ours))
    row: Row = {"factor": factor, "method": name, "metrics": {}}
    if name != OURS:
        row["ours_minus"] = {}
    for column, metric in enumerate(Metrics._fields):
        known = ~np.isnan(values[:, column])
        if not known.any():
            continue
        row["metrics"][metric] = by_subject(values[known, column]).rounded(6)
        if name != OURS:
            pair = values[known][None, :, [column]], own[known][None, :, [column]]
            found = paired_difference(*pair, lambda rows: float(rows.mean()))
            row["ours_minus"][metric] = {
                **found.interval.rounded(6), "p_value": round(found.p_value, 4)
            }  # fmt: skip
    return row


_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "psnr": ("PSNR (dB)", "{:.2f}".format),
    "ssim": ("SSIM", "{:.3f}".format),
    "sharpness": ("edge sharpness", "{:.2f}".format),
    "consistency": ("consistency error", "{:.5f}".format),
    "contrast": ("lesion contrast kept", "{:.0%}".format),
    "lost": ("lesions lost", "{:.1%}".format),
    "invented": ("invented a scan", "{:.2f}".format),
    "dice": ("Dice", "{:.3f}".format),
}


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, with how much more PSNR the model has."""
    metrics = [name for name in _COLUMNS if name in rows[0]["metrics"]]
    head = ["factor", "method", *(_COLUMNS[name][0] for name in metrics)]
    lines = []
    for row in rows:
        cells = [_COLUMNS[name][1](row["metrics"][name]["value"]) for name in metrics]
        gap = row.get("ours_minus", {}).get("psnr")
        text = f"{gap['value']:+.2f} ({gap['low']:+.2f} to {gap['high']:+.2f})" if gap else ""
        lines.append([f"{row['factor']:g}", row["method"], *cells, text])
    return markdown_table([*head, "model minus this: PSNR (95%)"], lines)
