"""The lesion benchmark: scorers of a model and baselines on families of lesions new to them."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.scorers import chosen
from medgan.core.config import DetectionConfig, LocaliserConfig
from medgan.core.files import write_atomic
from medgan.core.progress import counting
from medgan.data.batches import PreparedVolumes
from medgan.data.lesions import CONTROL, FAMILIES
from medgan.data.manifest import Manifest
from medgan.data.prepared import enough_preparable
from medgan.data.reading import Refuse, log_refusals
from medgan.model.model import Model
from medgan.reporting.charts import plot_scorers
from medgan.reporting.lesion_examples import plot_lesions
from medgan.studies.detection.protocol import BATCH, Maps, all_lesions, evaluate
from medgan.studies.detection.report import Entry, Fold, examples, lesion_table, row, table
from medgan.studies.detection.results import Lesion, merge
from medgan.studies.detection.scorers import (
    FOLDS,
    Mapper,
    ModelMaps,
    baseline_scorers,
    train_left_out_localiser,
)

log = logging.getLogger(__name__)
REPORT, LESIONS = "detection.json", "lesions.csv"
FEWEST = {"train": 8, "calibration": 5, "test": 2}
SCORERS = (
    *("residual", "similarity", "features", "density", "discriminator", "localiser"),
    *("ensemble", "latent", "reencoding"),
)
"""Scorers of the model, each a row of its own."""
COMBINATIONS = {
    "density + localiser": ("density", "localiser"),
    "density + localiser + residual": ("density", "localiser", "residual"),
}
"""Scorers whose maps are also combined, by the name of the row."""
SHOWN = "localiser"
"""The row whose lesions are listed and shown."""
Volumes = dict[str, Tensor]


def run_benchmark(
    model: Model,
    manifest: Manifest,
    out: Path,
    settings: DetectionConfig,
    localiser_config: LocaliserConfig,
    seed: int = 0,
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Evaluates every scorer on planted lesions and writes detection.json.

    A localiser is trained on planted lesions, so it is evaluated only on families left out of its
    training.

    Args:
        model: trained; a localiser of its own is not used.
        manifest: with the splits that it was trained with.
        out: receives cache, localisers, detection.json, a table of all lesions and pictures.
        settings: the detection section.
        localiser_config: how each localiser is trained.
        seed: of lesions and of all trainings.
        refuse: receives scans that cannot be prepared; they are left out.

    Returns:
        Protocol, rows and the table as Markdown.

    Raises:
        ConfigError: E_SCORER for an unknown scorer.
        DataError: E_SPLIT with too few healthy scans.
    """
    volumes = {split: _volumes(manifest, split, model, out, refuse) for split in FEWEST}
    model.learn_densities(lambda: volumes["train"].split(BATCH))
    combinations = _checked(model)
    folds = list(_folds(model, volumes, out, settings, localiser_config, seed))
    entries = {
        name: Entry(
            merge([fold.results[name] for fold in folds]),
            _seconds(ModelMaps(model, folds[0].localiser, members), volumes["test"]),
            own=True,
        )
        for name, members in combinations.items()
    }
    entries |= dict(_baselines(model, volumes, settings, seed))
    result: dict[str, Any] = {
        "protocol": settings.model_dump()
        | {
            "scorers": SCORERS,
            "combinations": COMBINATIONS,
            "localiser": localiser_config.model_dump(),
            "seed": seed,
            "families": list(FAMILIES),
            "folds": [list(fold) for fold in FOLDS],
            "scans": {split: len(part) for split, part in volumes.items()},
            "data_digest": manifest.digest,
            "model": model.facts,
        },
        "rows": [row(name, entries) for name in entries],
    }
    result["table"] = table(result["rows"])
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    write_atomic(out / LESIONS, lesion_table(entries[SHOWN].results))
    plot_scorers(out / "scorers.png", result["rows"])
    members = combinations[SHOWN]
    shown = examples(
        folds, volumes["calibration"], volumes["test"], SHOWN, members, seed
    )  # fmt: skip
    plot_lesions(out / "lesions.png", shown)
    return result


def _checked(model: Model) -> dict[str, tuple[str, ...]]:
    """Scorers of the model by row name, checked before anything is trained."""
    combinations = {name: (name,) for name in SCORERS} | COMBINATIONS
    networks = replace(model.scoring_networks(), localise=lambda x: x)
    for names in combinations.values():
        chosen(networks, names)
    return combinations


def _volumes(manifest: Manifest, split: str, model: Model, out: Path, refuse: Refuse) -> Tensor:
    grid = model.preprocessing
    cases = enough_preparable(manifest, split, FEWEST[split], grid, out, refuse)
    prepared = PreparedVolumes(cases, grid, out / "cache")
    return torch.stack([prepared[number][0] for number in range(len(prepared))])


def _folds(
    model: Model,
    volumes: Volumes,
    out: Path,
    settings: DetectionConfig,
    localiser_config: LocaliserConfig,
    seed: int,
) -> Iterator[Fold]:
    """The model's scorers on each fold of families, with a localiser that never saw them."""
    combinations = _checked(model)
    wanted = [[f for f in fold if f in settings.families] for fold in FOLDS]
    for number, fold in enumerate(wanted):
        if not fold:
            continue
        localiser = train_left_out_localiser(
            model, volumes["train"], fold, out / f"fold{number}", localiser_config, seed
        )
        maps = ModelMaps(model, localiser, SCORERS)
        families = [*fold, CONTROL] if number == 0 else fold
        with counting(f"fold {number + 1} of {len(wanted)}") as tick:
            lesions = _lesions(volumes, families, settings)
            found = evaluate(
                maps, volumes["calibration"], volumes["test"], lesions, combinations, seed, tick
            )
        yield Fold(localiser, maps, found)


def _lesions(volumes: Volumes, families: Sequence[str], settings: DetectionConfig) -> list[Lesion]:
    scans = len(volumes["test"])
    return all_lesions(scans, families, each=settings.lesions_per_family)


def _baselines(
    model: Model, volumes: Volumes, settings: DetectionConfig, seed: int
) -> Iterator[tuple[str, Entry]]:
    lesions = _lesions(volumes, settings.families, settings)
    for name, train in baseline_scorers(model, volumes["train"], seed).items():
        log.info("%s", name)
        mapper = train()

        def maps(part: Tensor, mapper: Mapper = mapper) -> dict[str, Tensor]:
            return {"map": mapper(part)}

        with counting(name) as tick:
            found = evaluate(
                maps, volumes["calibration"], volumes["test"], lesions, None, seed, tick
            )  # fmt: skip
        yield name, Entry(found["map"], _seconds(maps, volumes["test"]), own=False)


def _seconds(maps: Maps, volumes: Tensor) -> float:
    """Time to map one scan: the median of three runs after one to warm up."""
    taken = []
    for _ in range(4):
        started = time.perf_counter()
        maps(volumes[:1])
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))
