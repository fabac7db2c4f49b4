"""Are synthetic scans real and varied enough: each figure beside that of real scans."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgan.config import DataConfig, EvaluateConfig, Preprocessing
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.plan import plan
from medgan.errors import DataError
from medgan.evaluation.description import Description, describe
from medgan.evaluation.diversity import classify
from medgan.evaluation.features import (
    EXTRACTORS,
    Extractor,
    Material,
    cached_features,
    voxel_hashes,
)
from medgan.evaluation.fidelity import frechet_extrapolated, frequencies
from medgan.evaluation.figures import (
    Figure,
    Standing,
    extrapolation_sizes,
    figures_of,
    halves,
    largest_size,
    stand,
)
from medgan.files import write_together
from medgan.metrics import standardised
from medgan.report.evaluation import Shown, evaluation_page
from medgan.studies.contestants import Contestant
from medgan.studies.scans import read_scans

log = logging.getLogger(__name__)
REPORT, PAGE = "evaluation.json", "evaluation.html"
FEWEST = 5
"""Volumes of each set compared."""
_FEW = 20
_MOST = 4
"""Times the size of a set, of synthetic scans that are looked at."""
_QUANTILES = 64
Row = dict[str, Any]


@dataclass(frozen=True)
class _Set:
    """Volumes on the common grid.

    Attributes:
        images: (N, 1, X, Y, Z).
        label_maps: (N, X, Y, Z); None unless every volume has one.
        keys: hashes of files or voxels.
    """

    images: Tensor
    label_maps: Tensor | None
    keys: list[str]

    def part(self, rows: Tensor) -> "_Set":
        maps = None if self.label_maps is None else self.label_maps[rows]
        return _Set(self.images[rows], maps, [self.keys[row] for row in rows.tolist()])


def evaluate(
    fake: Contestant | Sequence[Case],
    manifest: Manifest,
    out: Path,
    settings: EvaluateConfig,
    data: DataConfig,
    device: torch.device,
) -> dict[str, Any]:
    """Measures synthetic scans against real ones; writes evaluation.json and evaluation.html.

    Args:
        fake: what a model or baseline has made, on its own grid; or scans, which are brought to
            the grid that fits the real ones.
        manifest: of the real scans.
        out: receives cache, evaluation.json and evaluation.html.
        settings: the evaluate section.
        data: the data section, for the grid where no model brings one.
        device: of the extractor.

    Returns:
        protocol, rows, what is left out and why, and the table as Markdown.

    Raises:
        DataError: E_SPLIT with too few real or synthetic scans.
        ModelError: E_MODEL where an extractor's weights cannot be used.
    """
    cases = real_cases(manifest, settings.splits)
    subjects = [case.subject for case in cases]
    size = _size(subjects, len(fake.images) if isinstance(fake, Contestant) else len(fake))
    size = min(size, settings.size or size)
    grid = fake.preprocessing if isinstance(fake, Contestant) else plan(data, cases)
    real = _of_cases(cases, grid, out)
    judged = _of_contestant(fake) if isinstance(fake, Contestant) else _of_cases(fake, grid, out)
    random = torch.Generator().manual_seed(settings.seed)
    judged = judged.part(torch.randperm(len(judged.images), generator=random)[: _MOST * size])
    material = Material(real.images.to(device), _weights(settings), settings.seed)
    extractor = EXTRACTORS[settings.features](material)
    described = _described(real, judged, extractor, grid, size, settings, out, device)
    left_out: dict[str, str] = {}
    described = _classified(*described, cases, settings.seed, left_out)
    log.info("%d real and %d synthetic scans, %d in each draw", len(cases), len(judged.keys), size)
    standings = stand(*described, subjects, size, settings.draws, settings.seed)
    figures = figures_of(described[0])
    rows = [_row(name, figures[name], found) for name, found in standings.items()]
    result = {
        "protocol": {
            "real_scans": len(cases),
            "synthetic_scans": len(judged.keys),
            "scans_a_set": size,
            "draws": settings.draws,
            "seed": settings.seed,
            "splits": list(settings.splits or SPLITS),
            "features": extractor.name,
            "features_digest": extractor.digest,
            "feature_count": described[0].features.shape[1],
            "grid": grid.model_dump(mode="json", include={"spacing", "shape", "intensity"}),
            "data_digest": manifest.digest,
            "synthetic": fake.name if isinstance(fake, Contestant) else "scans",
        },
        "rows": rows,
        "left_out": left_out,
        "curves": _curves(*described, subjects, size, grid, settings.seed),
    }
    result["table"] = table(rows)
    shown = Shown(real.images[:, 0].numpy(), judged.images[:, 0].numpy(), grid.spacing)
    page = evaluation_page(result, shown)
    write_together({out / PAGE: page, out / REPORT: json.dumps(result, indent=1)})
    return result


def real_cases(manifest: Manifest, splits: Sequence[str]) -> list[Case]:
    """The healthy scans of some splits, or of all where none is named."""
    return [c for c in manifest.cases if c.healthy and c.split in (splits or SPLITS)]


def _size(subjects: Sequence[str], synthetic: int) -> int:
    """Volumes in each set that is compared, the same for all.

    Raises:
        DataError: E_SPLIT.
    """
    size = min(largest_size(subjects) if subjects else 0, synthetic)
    if size < FEWEST:
        raise DataError(
            "E_SPLIT", f"{len(subjects)} real and {synthetic} synthetic scans",
            f"at least {2 * FEWEST} and {FEWEST} are needed", "add scans",
        )  # fmt: skip
    if size < _FEW:
        log.warning("%d scans in each set: only gross differences will show", size)
    return size


def _weights(settings: EvaluateConfig) -> Path | None:
    return Path(settings.weights) if settings.weights else None


def _of_contestant(fake: Contestant) -> _Set:
    return _Set(fake.images, fake.label_maps, voxel_hashes(fake.images))


def _of_cases(cases: Sequence[Case], grid: Preprocessing, out: Path) -> _Set:
    scans = read_scans(cases, grid, out)
    complete = bool(grid.labels) and bool(scans.labelled.all())
    return _Set(scans.images, scans.label_maps if complete else None, [c.sha256 for c in cases])


def _described(
    real: _Set,
    judged: _Set,
    extractor: Extractor,
    grid: Preprocessing,
    size: int,
    settings: EvaluateConfig,
    out: Path,
    device: torch.device,
) -> tuple[Description, Description]:
    labels = grid.labels
    if real.label_maps is None or judged.label_maps is None:
        labels = ()
    described = []
    for part in (real, judged):
        features = cached_features(
            extractor, part.images.to(device), part.keys,
            grid.model_dump_json(exclude={"conditions", "labels"}), out / "cache",
        )  # fmt: skip
        pairs = round(settings.pairs * (len(part.images) / size) ** 2)
        described.append(
            describe(
                part.images, features, grid.spacing, labels, part.label_maps, pairs, settings.seed
            )
        )
    return described[0], described[1]


def _classified(
    real: Description,
    judged: Description,
    cases: Sequence[Case],
    seed: int,
    left_out: dict[str, str],
) -> tuple[Description, Description]:
    """With class probabilities by the first categorical covariate that can be seen in scans."""
    reason = "no covariate with two or more categories of ten scans each"
    for name in sorted({key for case in cases for key in case.covariates}):
        values = [case.covariates.get(name, "") for case in cases]
        if "" in values or len(set(values)) > len(values) // 10:
            continue
        found = classify(real.features, values, [c.subject for c in cases], judged.features, seed)
        if found is None:
            continue
        if found.usable:
            left_out.pop("class_score", None)
            return replace(real, classes=found.real), replace(judged, classes=found.fake)
        reason = (
            f"a classifier of {name} is no better than chance on real scans "
            f"(balanced accuracy {found.accuracy:.2f}, p {found.p_value:.2f})"
        )
    left_out["class_score"] = reason
    return real, judged


def _row(key: str, figure: Figure, found: Standing) -> Row:
    numbers = {name: float(f"{value:.5g}") for name, value in found._asdict().items()}
    return {
        "figure": key, "name": figure.name, "unit": figure.unit, "better": figure.better,
        **numbers, "inside": _inside(figure, found), "meaning": figure.meaning,
        "verdict": verdict(figure, found),
    }  # fmt: skip


def _inside(figure: Figure, found: Standing) -> bool:
    low_is_fine, high_is_fine = figure.better == "small", figure.better == "large"
    return (found.value >= found.floor_low or low_is_fine) and (
        found.value <= found.floor_high or high_is_fine
    )


def verdict(figure: Figure, found: Standing) -> str:
    """Whether a figure lies in the range of real scans, or how far outside, in a sentence."""
    if _inside(figure, found):
        beyond = (figure.better == "small" and found.value < found.floor_low) or (
            figure.better == "large" and found.value > found.floor_high
        )
        if beyond:
            return "Better than other real scans: too typical, or copied."
        return "In the range of real scans."
    side = "Above" if found.value > found.floor_high else "Below"
    far = abs(found.value - found.floor)
    if found.spread > 0:
        return (
            f"{side} the range of real scans, {far / found.spread:.1f} of its standard deviations."
        )
    return f"{side} the range of real scans."


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| figure | synthetic (95%) | real (95%) | better | verdict |",
        "|" + " --- |" * 5,
    ]
    for row in rows:
        name = f"{row['name']} ({row['unit']})" if row["unit"] else row["name"]
        lines.append(
            f"| {name} | {row['value']:.3g} ({row['low']:.3g} to {row['high']:.3g}) | "
            f"{row['floor']:.3g} ({row['floor_low']:.3g} to {row['floor_high']:.3g}) | "
            f"{row['better']} | {row['verdict']} |"
        )
    return "\n".join(lines)


def _curves(
    real: Description,
    judged: Description,
    subjects: Sequence[str],
    size: int,
    grid: Preprocessing,
    seed: int,
) -> dict[str, Any]:
    """What the page draws: spectra, histograms, volumes, the Fréchet distance over 1 / n."""
    random = torch.Generator().manual_seed(seed)
    first, second = (half[:size] for half in halves(subjects, random))
    chosen = torch.randperm(len(judged), generator=random)[:size]
    sizes = extrapolation_sizes(size)

    def frechet(features: Tensor) -> dict[str, Any]:
        pair = standardised(real.features[first], features)
        return _rounded(frechet_extrapolated(*pair, sizes, 8, seed)._asdict())

    shares = torch.linspace(0, 1, _QUANTILES)
    curves: dict[str, Any] = {
        "frequencies": [round(f, 5) for f in frequencies(grid.shape, grid.spacing)],
        "structures": list(real.structures),
        "frechet": {
            "real": frechet(real.features[second]),
            "synthetic": frechet(judged.features[chosen]),
        },
    }
    for name, part in (("real", real), ("synthetic", judged)):
        curves[name] = {
            "spectrum": _bands(part.spectra),
            "histogram": _bands(part.histograms),
            "volumes": _listed(torch.quantile(part.sizes, shares, dim=0).T),
        }
    return curves


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [round(v, 5) for v in value] if isinstance(value, tuple) else round(value, 5)
        for key, value in values.items()
    }


def _bands(rows: Tensor) -> dict[str, list[float]]:
    """Mean and the middle 90% over volumes."""
    low, high = torch.quantile(rows, torch.tensor([0.05, 0.95]), dim=0)
    return {"mean": _listed(rows.mean(dim=0)), "low": _listed(low), "high": _listed(high)}


def _listed(values: Tensor) -> Any:  # noqa: ANN401 - nested as the tensor is
    return [
        [float(f"{v:.5g}") for v in row] if isinstance(row, list) else float(f"{row:.5g}")
        for row in values.tolist()
    ]
