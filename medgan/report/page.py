"""One self-contained HTML page of what a run's folder holds."""

import base64
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from medgan.data.manifest import Case, Manifest
from medgan.errors import ConfigError
from medgan.files import write_atomic
from medgan.pictures import curves, score_panel
from medgan.tracking.tracker import read_metrics
from medgan.volume import Volume

PAGE = "report.html"
_CURVES = ("samples/kernel_distance", "samples/diversity", "samples/reconstruction")
_FIXED = (
    *("case", "subject", "healthy", "score", "p_value", "q_value", "alarm", "comparable"),
    *("explanation", "map", "recon", "regions", "page"),
)


def write_page(folder: Path, scans: int) -> Path:
    """Writes report.html: model, samples, curves, scores, the strangest scans, refusals.

    Args:
        folder: of a training, of scores, or of both; what is absent is left out.
        scans: how many scans are shown with pictures.

    Returns:
        The page.

    Raises:
        ConfigError: E_MISSING.
    """
    if not folder.is_dir():
        raise ConfigError("E_MISSING", str(folder), "no such folder", "give a run's folder")
    scored = next((p for p in (folder, folder / "scores") if (p / "scores.json").is_file()), folder)
    scores = _read_json(scored / "scores.json")
    config = _read_json(folder / "model" / "config.json")
    rows = scores.get("scans", [])
    samples = sorted((folder / "samples").glob("*.png"))
    with tempfile.TemporaryDirectory() as temporary:
        values = {
            "title": " and ".join(["Training"] * bool(samples) + ["Scores"] * bool(rows)),
            "facts": _facts(config or scores),
            "samples": _embed(samples[-1]) if samples else "",
            "curves": _curves(folder / "metrics.jsonl", Path(temporary)),
            "rows": rows,
            "scored": scored.relative_to(folder).as_posix(),
            "parts": [name for name in rows[0] if name not in _FIXED] if rows else [],
            "known": any(row["healthy"] is not None for row in rows),
            "verdict": _verdict(rows, scores.get("calibration_scans", 0)),
            "panels": _panels(folder, scored, rows[:scans], Path(temporary)),
            "refused": _read_csv(folder / "refused.csv"),
        }
    pages = Environment(
        loader=PackageLoader("medgan.report", "."), autoescape=select_autoescape(["j2", "html"])
    )
    page = folder / PAGE
    write_atomic(page, pages.get_template("page.html.j2").render(values))
    return page


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    facts = dict(config.get("facts") or config.get("model") or {})
    if "preprocessing" in config:
        grid = config["preprocessing"]
        shape = " x ".join(str(n) for n in grid["shape"])
        spacing = " x ".join(f"{s:g}" for s in grid["spacing"])
        facts = {"grid": f"{shape} voxels of {spacing} mm", **facts}
    return {name.replace("_", " "): value for name, value in facts.items()}


def _verdict(rows: list[dict[str, Any]], calibration_scans: int) -> str:
    """What the scores say of the whole cohort, in one or two sentences."""
    if not rows:
        return ""
    judged = [row["p_value"] for row in rows if row["p_value"] is not None]
    low = sum(p_value <= 0.05 for p_value in judged)
    comparable = [row for row in rows if row["p_value"] is not None]
    healthy = [row["score"] for row in comparable if row["healthy"] is True]
    others = [row["score"] for row in comparable if row["healthy"] is False]
    text = f"{low} with a p-value of 0.05 or less, against {calibration_scans} calibration scans."
    if len(judged) < len(rows):
        text += f" {len(rows) - len(judged)} not comparable with these, and so without a p-value."
    if healthy and others:
        from sklearn.metrics import roc_auc_score

        truth = [0] * len(healthy) + [1] * len(others)
        area = roc_auc_score(truth, healthy + others)
        text += (
            f" {len(others)} scans are known not to be healthy; the area under the ROC curve that"
            f" tells them from the {len(healthy)} healthy ones is {area:.2f}."
        )
    return text


def _panels(
    folder: Path, scored: Path, rows: list[dict[str, Any]], temporary: Path
) -> list[dict[str, Any]]:
    if not rows:
        return []
    cases = {case.case: case for case in Manifest.load(folder / "manifest.json").cases}
    panels = []
    for row in rows:
        case = cases[row["case"]]
        path = temporary / f"{row['case']}.png"
        scan = Volume.load(case.image).canonical()
        lesion = _lesion(case, scan)
        score_panel(
            path, scan.data,
            Volume.load(scored / row["recon"]).canonical().data,
            Volume.load(scored / row["map"]).canonical().data,
            scan.spacing, lesion,
        )  # fmt: skip
        panels.append(
            {
                **row,
                "image": _embed(path),
                "group": "healthy" if row["healthy"] else "not healthy",
                "outlined": lesion is not None,
            }
        )
    return panels


def _lesion(case: Case, scan: Volume) -> np.ndarray | None:
    """The known lesion of a test case, from a column lesion_mask of its table."""
    path = Path(case.covariates.get("lesion_mask", ""))
    if not path.is_file():
        return None
    mask = Volume.load(path).canonical().data
    return mask if mask.shape == scan.data.shape else None


def _curves(metrics: Path, temporary: Path) -> str:
    rows = read_metrics(metrics)
    if not any(_CURVES[0] in row for row in rows):
        return ""
    path = temporary / "curves.png"
    curves(path, rows, _CURVES)
    return _embed(path)


def _embed(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _read_csv(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
