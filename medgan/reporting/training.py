"""The page of a training: samples, curves, model card, data card, configuration."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from medgan.core.config import build
from medgan.core.errors import EnvironmentFailure
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json
from medgan.core.table_files import read_table
from medgan.data.manifest import SPLITS, Manifest
from medgan.model.card import USE, card_facts, described
from medgan.reporting.plot import Plot, curve
from medgan.reporting.template import render
from medgan.tracking.tracker import read_metrics

log = logging.getLogger(__name__)
TRAINING = "training.html"
MOST_GRIDS = 12
"""Most sample grids shown, evenly over the training."""
_GROUPS = (
    ("samples", "Samples", "metrics of the averaged networks at each evaluation"),
    ("generator", "Generator and encoder", "losses"),
    ("critic", "Discriminator of images", "losses and penalties"),
    ("pair", "Discriminator of images with labels", "losses and penalties"),
    ("train", "Course", "learning rate and other automatic changes"),
    ("time", "Speed", "volumes per second, and share of time spent waiting for scans"),
    ("system", "Machine", "all programs together; the network since the training began"),
)
_SHOWN = ("data", "model", "train", "localiser", "score")
_PRIVATE = ("data.source", "data.splits")
"""Settings that hold paths."""


class SampleGrid(NamedTuple):
    """A sample grid: its file beside the page, and the number of volumes seen."""

    file: str
    volumes: int


class TrainingPage:
    """A tracker that writes the page of a training at each evaluation.

    Args:
        folder: of the training.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """Does nothing: the page reads metrics.jsonl."""

    def picture(self, path: Path) -> None:
        """Writes the page; a page that cannot be written does not stop a training."""
        try:
            write_training_page(self._folder)
        except EnvironmentFailure as error:
            log.warning("%s", error)

    def rewind(self, volumes_seen: int) -> None:
        """Does nothing: the next evaluation writes the page."""


def write_training_page(folder: Path) -> bool:
    """Writes report/training.html, with sample grids beside it.

    Args:
        folder: of a training, finished or under way.

    Returns:
        Whether the folder holds a training.
    """
    metrics = read_metrics(folder / "metrics.jsonl")
    model = _read_json(folder / "model" / "config.json")
    if not metrics and not model:
        return False
    settings = _settings(folder / "config.yaml")
    summary, limits = described(model)
    values = {
        "seen": metrics[-1]["volumes_seen"] if metrics else 0,
        "groups": _groups(metrics, _goal(settings)),
        "grids": _copy_grids(folder),
        "settings": settings,
        "data": _data_card(folder, settings),
        "model": _model_card(folder, model) if model else {},
        "summary": summary,
        "use": USE,
        "limits": limits,
        "scored": any((p / "scores.json").is_file() for p in (folder, folder / "scores")),
    }
    write_atomic(folder / "report" / TRAINING, render("training.html.j2", **values))
    return True


def _goal(settings: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The value at which the training stops, by the name of its metric, if there is one."""
    train = settings.get("train", {})
    text = train.get("stop_at", {"text": "None"})["text"]
    return {} if text == "None" else {f"samples/{train['metric']['text']}": float(text)}


def _groups(metrics: list[dict[str, Any]], goal: dict[str, float]) -> list[dict[str, Any]]:
    """Curves of all metrics in groups, with the value at which the training stops."""
    names = dict.fromkeys(name for row in metrics for name in row if name != "volumes_seen")
    groups = []
    for prefix, title, about in _GROUPS:
        plots: list[Plot] = []
        for name in (name for name in names if name.startswith(f"{prefix}/")):
            rows = [row for row in metrics if name in row]
            words = name.split("/", 1)[1].replace("_", " ")
            seen = [row["volumes_seen"] for row in rows]
            values = [row[name] for row in rows]
            plots.append(curve(words, seen, values, "volumes seen", goal.get(name)))
        if plots:
            groups.append({"title": title, "about": about, "plots": plots})
    return groups


def _copy_grids(folder: Path) -> list[SampleGrid]:
    """Copies sample grids beside the page and removes those of undone steps."""
    found = sorted((folder / "samples").glob("*.png"))
    if len(found) > MOST_GRIDS:
        chosen = np.linspace(0, len(found) - 1, MOST_GRIDS).round().astype(int)
        found = [found[n] for n in chosen]
    beside = folder / "report" / "samples"
    names = {path.name for path in found}
    for old in beside.glob("*.png"):
        if old.name not in names:
            old.unlink()
    for path in found:
        if not (beside / path.name).is_file():
            write_atomic(beside / path.name, path.read_bytes())
    return [SampleGrid(f"samples/{path.name}", int(path.stem)) for path in found]


def _settings(path: Path) -> dict[str, dict[str, Any]]:
    """Settings by section: text, and whether it differs from the default; without paths."""
    if not path.is_file():
        return {}
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    usual = build({}).model_dump(mode="json")
    return {
        section: {
            key: {"text": _setting_text(value), "changed": value != usual[section].get(key)}
            for key, value in values[section].items()
            if f"{section}.{key}" not in _PRIVATE
        }
        for section in _SHOWN
        if section in values
    }


def _setting_text(value: Any) -> str:  # noqa: ANN401 - any setting
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _data_card(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Numbers of the training data; only covariates that the settings name."""
    if not (folder / "manifest.json").is_file():
        return {}
    manifest, table = Manifest.load(folder / "manifest.json"), folder / "refused.csv"
    cases = manifest.cases
    subjects = {case.subject for case in cases}
    card = {"scans": f"{len(cases)} scans of {len(subjects)} subjects"}
    for split in SPLITS:
        part = manifest.split(split)
        card[split] = f"{len(part)} scans of {len({case.subject for case in part})} subjects"
    card["healthy"] = f"{sum(case.healthy for case in cases)} scans"
    if cases:
        card["voxels"] = _ranges([case.shape for case in cases], "")
        card["spacing"] = _ranges([case.spacing for case in cases], " mm")
    labels = sorted({label for case in cases for label in case.labels})
    if labels:
        labelled = sum(bool(case.label) for case in cases)
        card["labels"] = f"{', '.join(map(str, labels))}, in {labelled} scans"
    conditions = json.loads(settings.get("data", {}).get("conditions", {"text": "{}"})["text"])
    for name, kind in conditions.items():
        card[name] = _covariate([case.covariates.get(name, "") for case in cases], kind)
    codes = Counter(refusal.code for refusal in manifest.refusals)
    if table.is_file():  # holds those of the manifest and of the steps behind it
        codes = Counter(row["code"] for row in read_table(table, table.name))
    if codes:
        which = ", ".join(f"{code} {count}" for code, count in sorted(codes.items()))
        card["refused"] = f"{codes.total()} files: {which}"
    if manifest.licence:
        card["licence"] = manifest.licence
    return card | {"digest": manifest.digest}


def _ranges(rows: Sequence[tuple[int | float, ...]], unit: str) -> str:
    """Range along each of the three stored axes."""
    values = np.array(rows)
    axes = (
        f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        for low, high in zip(values.min(axis=0), values.max(axis=0), strict=True)
    )
    return " x ".join(axes) + unit


def _covariate(texts: list[str], kind: str) -> str:
    if kind == "categorical":
        counts = Counter(text for text in texts if text)
        return ", ".join(f"{value} {count}" for value, count in sorted(counts.items()))
    numbers = [float(text) for text in texts if text.replace(".", "", 1).lstrip("-").isdigit()]
    if not numbers:
        return "unknown"
    low, middle, high = np.quantile(numbers, (0, 0.5, 1))
    return f"{low:g} to {high:g}, median {middle:g}; known for {len(numbers)} scans"


def _model_card(folder: Path, model: dict[str, Any]) -> dict[str, str]:
    calibration = _read_json(folder / "model" / "calibration.json")
    scorers = calibration["scoring_config"]["scorers"] if calibration else []
    adjustment = calibration.get("adjustment", {"covariates": []})
    adjusted = [one["name"] for one in adjustment["covariates"]]
    return card_facts(model, len(calibration.get("scores", [])), scorers, adjusted)


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
