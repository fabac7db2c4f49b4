"""Are synthetic scans real and varied enough: each figure beside that of real scans."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.core.config import DataConfig, EvaluateConfig, Preprocessing
from medgan.core.errors import DataError
from medgan.core.files import write_together
from medgan.data.conditions import count_categories
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.plan import plan
from medgan.data.prepared import read_scans
from medgan.evaluation.probes.two_sample import separability
from medgan.evaluation.sets.description import Description, describe
from medgan.evaluation.sets.diversity import classify
from medgan.evaluation.sets.features import (
    EXTRACTORS,
    Extractor,
    Material,
    cached_features,
    voxel_hashes,
)
from medgan.evaluation.sets.findings import row, table
from medgan.evaluation.sets.metrics import (
    Figure,
    Standing,
    figures_of,
    halves,
    largest_size,
    stand,
    standing,
)
from medgan.evaluation.sets.sensitivity import curves
from medgan.reporting.evaluation import Shown, evaluation_page
from medgan.studies.generated_sets import Contestant

log = logging.getLogger(__name__)
REPORT, PAGE = "evaluation.json", "evaluation.html"
FEWEST = 5
"""Volumes of each set compared."""
_FEW = 20
_MOST = 4
"""Times the size of a set, of synthetic scans that are looked at."""
_JUDGES = 3
AUROC = Figure(
    "AUROC of a judge", "small", "",
    "How surely a small network, trained for this, tells them from real scans; 0.5 is not at all.",
    lambda a, b: float("nan"),
)  # fmt: skip


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
    size = set_size(subjects, len(fake.images) if isinstance(fake, Contestant) else len(fake))
    size = min(size, settings.size or size)
    if size < _FEW:
        log.warning("%d scans in each set: only gross differences will show", size)
    grid = fake.preprocessing if isinstance(fake, Contestant) else plan(data, cases)
    real = _of_cases(cases, grid, out)
    judged = _of_contestant(fake) if isinstance(fake, Contestant) else _of_cases(fake, grid, out)
    random = torch.Generator().manual_seed(settings.seed)
    judged = judged.part(torch.randperm(len(judged.images), generator=random)[: _MOST * size])
    copies = len(set(voxel_hashes(real.images)).intersection(voxel_hashes(judged.images)))
    if copies:
        log.warning("%d synthetic scans are real ones, voxel by voxel: no figure shows that, and "
                    "all look better for it", copies)  # fmt: skip
    material = Material(real.images.to(device), _weights(settings), settings.seed)
    extractor = EXTRACTORS[settings.features](material)
    described = _described(real, judged, extractor, grid, size, settings, out, device)
    left_out: dict[str, str] = {}
    described = _classified(*described, cases, settings.seed, left_out)
    log.info("%d real and %d synthetic scans, %d in each draw", len(cases), len(judged.keys), size)
    standings = stand(*described, subjects, size, settings.draws, settings.seed)
    figures = figures_of(described[0])
    if settings.judge:
        log.info("networks learn to tell fake from real")
        volumes = real.images.to(device), judged.images.to(device)
        figures, standings = figures | {"auroc": AUROC}, dict(standings)
        standings["auroc"] = _auroc(*volumes, subjects, size, settings)
    rows = [row(name, figures[name], found) for name, found in standings.items()]
    result = {
        "protocol": {
            "real_scans": len(cases),
            "synthetic_scans": len(judged.keys),
            "copies": copies,
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
        "curves": curves(*described, subjects, size, grid.shape, grid.spacing, settings.seed),
    }
    result["table"] = table(rows)
    shown = Shown(real.images[:, 0].numpy(), judged.images[:, 0].numpy(), grid.spacing)
    page = evaluation_page(result, shown)
    write_together({out / PAGE: page, out / REPORT: json.dumps(result, indent=1)})
    return result


def real_cases(manifest: Manifest, splits: Sequence[str]) -> list[Case]:
    """The healthy scans of some splits, or of all where none is named."""
    return [c for c in manifest.cases if c.healthy and c.split in (splits or SPLITS)]


def set_size(subjects: Sequence[str], synthetic: int) -> int:
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
    reason = "there is no covariate with two or more categories of ten scans each"
    for name in sorted({key for case in cases for key in case.covariates}):
        counts = count_categories(cases, name)
        if len(counts) > len(cases) // 10:
            continue
        known = [row for row, case in enumerate(cases) if case.covariates.get(name) in counts]
        found = classify(
            real.features[known], [cases[row].covariates[name] for row in known],
            [cases[row].subject for row in known], judged.features, seed,
        )  # fmt: skip
        if found is None:
            continue
        if found.usable:
            classes = torch.full(
                (len(real), found.real.shape[1]), torch.nan, dtype=torch.float64, device="cpu"
            )
            classes[known] = found.real
            return replace(real, classes=classes), replace(judged, classes=found.fake)
        reason = (
            f"a classifier of {name} is no better than chance on real scans "
            f"(balanced accuracy {found.accuracy:.2f}, p {found.p_value:.2f})"
        )
    left_out["class_score"] = reason
    return real, judged


def _auroc(
    real: Tensor, judged: Tensor, subjects: Sequence[str], size: int, settings: EvaluateConfig
) -> Standing:
    """How well a network tells sets apart, each of half the size: one half to learn from."""
    values = []
    for seed in range(settings.seed, settings.seed + _JUDGES):
        random = torch.Generator().manual_seed(seed)
        learn, test = (real[half[:size]].tensor_split(2) for half in halves(subjects, random))
        chosen = torch.randperm(len(judged), generator=random)[:size]
        fake = judged[chosen].tensor_split(2)
        pairs = ((learn[0], fake[0], test[0], fake[1]), (learn[0], learn[1], test[0], test[1]))
        values.append([separability(*four, seed, settings.judge_steps) for four in pairs])
    return standing(np.array(values))
