"""The fidelity study: realism and diversity of synthetic scans, beside those of real scans."""

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
from medgan.data.categories import count_categories
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.prepared import preparable, read_scans
from medgan.data.reading import Refuse, log_refusals
from medgan.data.template import aligned_plan
from medgan.evaluation.probes.two_sample import separability
from medgan.evaluation.sets.description import Description, describe
from medgan.evaluation.sets.diversity import classify
from medgan.evaluation.sets.features import (
    EXTRACTORS,
    Extractor,
    ExtractorSource,
    cached_features,
    voxel_hashes,
)
from medgan.evaluation.sets.findings import row, table
from medgan.evaluation.sets.metrics import (
    Metric,
    MetricWithReference,
    compare,
    halves,
    largest_size,
    metrics_of,
    with_reference,
)
from medgan.evaluation.sets.sensitivity import curves
from medgan.reporting.evaluation import Shown, evaluation_page
from medgan.studies.generated_sets import GeneratedSet

log = logging.getLogger(__name__)
REPORT, PAGE = "evaluation.json", "evaluation.html"
FEWEST = 5
"""Volumes of each set compared."""
SEED = 0
"""Of the choice of samples, of the draws and of the probes."""
DRAWS = 50
"""How often sets are drawn, halves of the real scans among them."""
PAIRS = 60
"""Pairs of scans in a set whose similarity is measured."""
PROBE_STEPS = 400
"""Training steps of each network that separates synthetic from real scans."""
_FEW = 20
_MOST = 4
"""Most synthetic scans that are used, as a multiple of the size of a set."""
_CLASSIFIERS = 3
AUROC = Metric(
    "AUROC of a real-or-fake classifier", "small", "",
    "AUROC of a small network trained to tell synthetic from real scans; 0.5 is chance.",
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
    fake: GeneratedSet | Sequence[Case],
    manifest: Manifest,
    out: Path,
    settings: EvaluateConfig,
    data: DataConfig,
    device: torch.device,
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Measures synthetic scans against real ones; writes evaluation.json and evaluation.html.

    Args:
        fake: a generated set on its own grid; or scans, which are resampled to the grid of the
            real ones.
        manifest: of the real scans.
        out: receives cache, evaluation.json and evaluation.html.
        settings: the evaluate section.
        data: the data section, for the grid of scans.
        device: of the extractor.
        refuse: receives scans that cannot be prepared; they are left out.

    Returns:
        Protocol, rows, metrics left out with reasons, and the table as Markdown.

    Raises:
        DataError: E_SPLIT with too few real or synthetic scans.
        ModelError: E_MODEL where an extractor's weights cannot be used.
    """
    cases = real_cases(manifest, settings.splits)
    _size(cases, fake)  # too few are refused before any is read
    grid = (
        fake.preprocessing
        if isinstance(fake, GeneratedSet)
        else aligned_plan(data, cases, out / "cache")
    )
    cases = preparable(cases, grid, out, refuse)
    if not isinstance(fake, GeneratedSet):
        fake = preparable(fake, grid, out, refuse)
    subjects, size = [case.subject for case in cases], _size(cases, fake)
    if size < _FEW:
        log.warning("%d scans in each set: only large differences can be detected", size)
    real = _of_cases(cases, grid, out)
    generated = (
        _of_generated(fake) if isinstance(fake, GeneratedSet) else _of_cases(fake, grid, out)
    )
    random = torch.Generator().manual_seed(SEED)
    generated = generated.part(
        torch.randperm(len(generated.images), generator=random)[: _MOST * size]
    )
    copies = len(set(voxel_hashes(real.images)).intersection(voxel_hashes(generated.images)))
    if copies:
        log.warning("%d synthetic scans equal real ones, voxel by voxel: metrics do not show it "
                    "and are too good", copies)  # fmt: skip
    source = ExtractorSource(real.images.to(device), _weights(settings), SEED)
    extractor = EXTRACTORS[settings.features](source)
    described = _described(real, generated, extractor, grid, size, settings, out, device)
    left_out: dict[str, str] = {}
    described = _classified(*described, cases, SEED, left_out)
    log.info(
        "%d real and %d synthetic scans, %d in each draw", len(cases), len(generated.keys), size
    )
    compared = compare(*described, subjects, size, DRAWS, SEED)
    metrics = metrics_of(described[0])
    if settings.probes:
        log.info("training real-or-fake classifiers")
        volumes = real.images.to(device), generated.images.to(device)
        metrics, compared = metrics | {"auroc": AUROC}, dict(compared)
        compared["auroc"] = _auroc(*volumes, subjects, size, settings)
    rows = [row(name, metrics[name], found) for name, found in compared.items()]
    result = {
        "protocol": {
            "real_scans": len(cases),
            "synthetic_scans": len(generated.keys),
            "copies": copies,
            "scans_a_set": size,
            "draws": DRAWS,
            "seed": SEED,
            "splits": list(settings.splits or SPLITS),
            "features": extractor.name,
            "features_digest": extractor.digest,
            "feature_count": described[0].features.shape[1],
            "grid": grid.model_dump(mode="json", include={"spacing", "shape", "intensity"}),
            "data_digest": manifest.digest,
            "synthetic": fake.name if isinstance(fake, GeneratedSet) else "scans",
        },
        "rows": rows,
        "left_out": left_out,
        "curves": curves(*described, subjects, size, grid.shape, grid.spacing, SEED),
    }
    result["table"] = table(rows)
    shown = Shown(real.images[:, 0].numpy(), generated.images[:, 0].numpy(), grid.spacing)
    page = evaluation_page(result, shown)
    write_together({out / PAGE: page, out / REPORT: json.dumps(result, indent=1)})
    return result


def real_cases(manifest: Manifest, splits: Sequence[str]) -> list[Case]:
    """The healthy scans of some splits, or of all where none is named."""
    return [c for c in manifest.cases if c.healthy and c.split in (splits or SPLITS)]


def _size(cases: Sequence[Case], fake: GeneratedSet | Sequence[Case]) -> int:
    count = len(fake.images) if isinstance(fake, GeneratedSet) else len(fake)
    return set_size([case.subject for case in cases], count)


def set_size(subjects: Sequence[str], synthetic: int) -> int:
    """Number of volumes in each set, the same for all.

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


def _of_generated(fake: GeneratedSet) -> _Set:
    return _Set(fake.images, fake.label_maps, voxel_hashes(fake.images))


def _of_cases(cases: Sequence[Case], grid: Preprocessing, out: Path) -> _Set:
    scans = read_scans(cases, grid, out)
    complete = bool(grid.labels) and bool(scans.labelled.all())
    return _Set(scans.images, scans.label_maps if complete else None, [c.sha256 for c in cases])


def _described(
    real: _Set,
    generated: _Set,
    extractor: Extractor,
    grid: Preprocessing,
    size: int,
    settings: EvaluateConfig,
    out: Path,
    device: torch.device,
) -> tuple[Description, Description]:
    labels = grid.labels
    if real.label_maps is None or generated.label_maps is None:
        labels = ()
    described = []
    for part in (real, generated):
        features = cached_features(
            extractor, part.images.to(device), part.keys,
            grid.model_dump_json(exclude={"conditions", "labels"}), out / "cache",
        )  # fmt: skip
        pairs = round(PAIRS * (len(part.images) / size) ** 2)
        described.append(
            describe(part.images, features, grid.spacing, labels, part.label_maps, pairs, SEED)
        )
    return described[0], described[1]


def _classified(
    real: Description,
    generated: Description,
    cases: Sequence[Case],
    seed: int,
    left_out: dict[str, str],
) -> tuple[Description, Description]:
    """With class probabilities of the first categorical covariate that scans predict."""
    reason = "there is no covariate with two or more categories of ten scans each"
    for name in sorted({key for case in cases for key in case.covariates}):
        counts = count_categories(cases, name)
        if len(counts) > len(cases) // 10:
            continue
        known = [row for row, case in enumerate(cases) if case.covariates.get(name) in counts]
        found = classify(
            real.features[known], [cases[row].covariates[name] for row in known],
            [cases[row].subject for row in known], generated.features, seed,
        )  # fmt: skip
        if found is None:
            continue
        if found.usable:
            classes = torch.full(
                (len(real), found.real.shape[1]), torch.nan, dtype=torch.float64, device="cpu"
            )
            classes[known] = found.real
            return replace(real, classes=classes), replace(generated, classes=found.fake)
        reason = (
            f"a classifier of {name} is not better than chance on real scans "
            f"(balanced accuracy {found.accuracy:.2f}, p {found.p_value:.2f})"
        )
    left_out["class_score"] = reason
    return real, generated


def _auroc(
    real: Tensor, generated: Tensor, subjects: Sequence[str], size: int, settings: EvaluateConfig
) -> MetricWithReference:
    """AUROC of classifiers of sets: one half of each set for training, the other for test."""
    values = []
    for seed in range(SEED, SEED + _CLASSIFIERS):
        random = torch.Generator().manual_seed(seed)
        train, test = (real[half[:size]].tensor_split(2) for half in halves(subjects, random))
        chosen = torch.randperm(len(generated), generator=random)[:size]
        fake = generated[chosen].tensor_split(2)
        pairs = ((train[0], fake[0], test[0], fake[1]), (train[0], train[1], test[0], test[1]))
        values.append([separability(*four, seed, PROBE_STEPS) for four in pairs])
    return with_reference(np.array(values))
