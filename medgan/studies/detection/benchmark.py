"""The lesion benchmark: scorers of a model and baselines on families of lesions new to them."""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.scorers import available
from medgan.core.config import DetectionConfig, LocaliserConfig
from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.progress import counting
from medgan.data.batches import PreparedVolumes
from medgan.data.lesions import CONTROL, FAMILIES
from medgan.data.manifest import Manifest
from medgan.data.prepared import enough_preparable
from medgan.data.reading import Refuse, log_refusals
from medgan.data.shape_library import LesionShape
from medgan.model.model import Model
from medgan.reporting.charts import plot_scorers
from medgan.reporting.lesion_examples import plot_lesions
from medgan.studies.detection.protocol import (
    BATCH,
    Maps,
    all_lesions,
    evaluate,
    shape_lesions,
)
from medgan.studies.detection.report import (
    Entry,
    Fold,
    examples,
    lesion_table,
    row,
    size_table,
    table,
)
from medgan.studies.detection.results import METRICS, Lesion, merge
from medgan.studies.detection.scorers import (
    FOLDS,
    Mapper,
    ModelMaps,
    baseline_scorers,
    train_left_out_localiser,
)

log = logging.getLogger(__name__)
REPORT, LESIONS, SHAPE_LESIONS = "detection.json", "lesions.csv", "shapes.csv"
FEWEST = {"train": 8, "calibration": 5, "test": 2}
SCORERS = (
    *("residual", "similarity", "features", "density", "discriminator", "localiser"),
    *("ensemble", "latent", "reencoding", "restoration", "darker", "brighter"),
)
"""Scorers of the model, each a row of its own where the model has what it needs."""
COMBINATIONS = {
    "density + localiser": ("density", "localiser"),
    "density + localiser + residual": ("density", "localiser", "residual"),
    "localiser + restoration": ("localiser", "restoration"),
    "localiser + darker": ("localiser", "darker"),
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
    shapes: Sequence[LesionShape] = (),
) -> dict[str, Any]:
    """Evaluates every scorer on planted lesions and writes detection.json.

    A localiser is trained on planted lesions, so it is evaluated only on families left out of its
    training. On shapes of real lesions the model is evaluated as it is.

    Args:
        model: trained; a localiser of its own is used on shapes alone.
        manifest: with the splits that it was trained with.
        out: receives cache, localisers, detection.json, a table of all lesions and pictures.
        settings: the detection section.
        localiser_config: how each localiser is trained.
        seed: of lesions and of all trainings.
        refuse: receives scans that cannot be prepared; they are left out.
        shapes: of real lesions, none of which the model has seen in training.

    Returns:
        Protocol, rows, those of `shapes`, and the tables as Markdown.

    Raises:
        DataError: E_SPLIT with too few healthy scans, E_SHAPES where no shape fits.
    """
    chosen_by_model = model.calibration.scoring_config.scorers if model.calibration else ()
    volumes = {split: _volumes(manifest, split, model, out, refuse) for split in FEWEST}
    model.learn_densities(lambda: volumes["train"].split(BATCH))
    result: dict[str, Any] = {
        "protocol": settings.model_dump(exclude={"shapes"})
        | {
            "localiser": localiser_config.model_dump(),
            "seed": seed,
            "families": list(FAMILIES),
            "folds": [list(fold) for fold in FOLDS],
            "shapes": len(shapes),
            "scans": {split: len(part) for split, part in volumes.items()},
            "data_digest": manifest.digest,
            "model": model.facts,
        },
        "rows": [],
    }
    tables = []
    if settings.families:
        combinations = _rows_of(model)
        folds = list(_folds(model, combinations, volumes, out, settings, localiser_config, seed))
        entries = _entries(model, folds, combinations, volumes)
        lesions = _lesions(volumes, settings.families, settings)
        entries |= dict(_baselines(model, volumes, lesions, (), seed))
        result["protocol"] |= {
            "rows": combinations, "localiser_volumes": [fold.volumes for fold in folds],
        }  # fmt: skip
        result["rows"] = [row(name, entries) for name in entries]
        tables.append(table(result["rows"]))
        write_atomic(out / LESIONS, lesion_table(entries[SHOWN].results))
        plot_scorers(out / "scorers.png", result["rows"])
        members = combinations[SHOWN]
        shown = examples(
            folds, volumes["calibration"], volumes["test"], SHOWN, members, seed
        )  # fmt: skip
        plot_lesions(out / "lesions.png", shown)
    if shapes:
        result["shapes"] = _on_shapes(model, chosen_by_model, volumes, out, settings, shapes, seed)
        rows = result["shapes"]["rows"]
        tables += [table(rows), size_table(rows)]
    result["table"] = "\n\n".join(tables)
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    return result


def _on_shapes(
    model: Model,
    members: tuple[str, ...],
    volumes: Volumes,
    out: Path,
    settings: DetectionConfig,
    shapes: Sequence[LesionShape],
    seed: int,
) -> dict[str, Any]:
    """The model with its own localiser on shapes of real lesions, beside what needs no training.

    Its scorers, and the combination `members` of its calibration.
    """
    possible = available(model.scoring_networks())
    names = tuple(name for name in SCORERS if name in possible)
    combinations: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
    if len(members) > 1:
        names = tuple(dict.fromkeys((*names, *members)))
        combinations[" + ".join(members)] = members
    each, voxel_mm3 = settings.lesions_per_family or 1, math.prod(model.preprocessing.spacing)
    lesions = shape_lesions(volumes["test"], shapes, each, voxel_mm3, seed)
    if not lesions:
        raise DataError(
            "E_SHAPES", "detection.shapes", "none fits into a test scan", "name other shapes"
        )
    maps = ModelMaps(model, None, names)
    with counting("shapes of real lesions") as tick:
        found = evaluate(
            maps, volumes["calibration"], volumes["test"], lesions, combinations, seed, tick, shapes
        )
    fold = Fold(None, maps, found)
    entries = _entries(model, [fold], combinations, volumes)
    entries |= dict(_baselines(model, volumes, lesions, shapes, seed))
    rows = [row(name, entries, ("family", "size")) for name in entries]
    best = max(combinations, key=lambda n: entries[n].results.metric(METRICS[0]).value)
    write_atomic(out / SHAPE_LESIONS, lesion_table(entries[best].results))
    parts = (volumes["calibration"], volumes["test"])
    plot_lesions(
        out / "shapes.png", examples([fold], *parts, best, combinations[best], seed, shapes)
    )
    return {"rows": rows, "lesions": len(lesions), "shown": best}


def _entries(
    model: Model,
    folds: Sequence[Fold],
    combinations: Mapping[str, tuple[str, ...]],
    volumes: Volumes,
) -> dict[str, Entry]:
    """The rows of the model, of all folds together."""
    return {
        name: Entry(
            merge([fold.results[name] for fold in folds]),
            _seconds(ModelMaps(model, folds[0].localiser, members), volumes["test"]),
            own=True,
        )
        for name, members in combinations.items()
    }


def _rows_of(model: Model) -> dict[str, tuple[str, ...]]:
    """Scorers that the model has, once it has a localiser, by the name of their row."""
    networks = replace(model.scoring_networks(), localise=lambda x: x)
    possible = available(networks)
    rows = {name: (name,) for name in SCORERS} | COMBINATIONS
    return {name: members for name, members in rows.items() if set(members) <= set(possible)}


def _volumes(manifest: Manifest, split: str, model: Model, out: Path, refuse: Refuse) -> Tensor:
    grid = model.preprocessing
    cases = enough_preparable(manifest, split, FEWEST[split], grid, out, refuse)
    prepared = PreparedVolumes(cases, grid, out / "cache")
    return torch.stack([prepared[number][0] for number in range(len(prepared))])


def _folds(
    model: Model,
    combinations: Mapping[str, tuple[str, ...]],
    volumes: Volumes,
    out: Path,
    settings: DetectionConfig,
    localiser_config: LocaliserConfig,
    seed: int,
) -> Iterator[Fold]:
    """The model's scorers on each fold of families, with a localiser that never saw them."""
    names = tuple(dict.fromkeys(name for members in combinations.values() for name in members))
    wanted = [[f for f in fold if f in settings.families] for fold in FOLDS]
    for number, fold in enumerate(wanted):
        if not fold:
            continue
        localiser, seen = train_left_out_localiser(
            model, volumes["train"], fold, out / f"fold{number}", localiser_config, seed
        )
        maps = ModelMaps(model, localiser, names)
        families = [*fold, CONTROL] if number == 0 else fold
        with counting(f"fold {number + 1} of {len(wanted)}") as tick:
            lesions = _lesions(volumes, families, settings)
            found = evaluate(
                maps, volumes["calibration"], volumes["test"], lesions, combinations, seed, tick
            )
        yield Fold(localiser, maps, found, seen)


def _lesions(volumes: Volumes, families: Sequence[str], settings: DetectionConfig) -> list[Lesion]:
    scans = len(volumes["test"])
    return all_lesions(scans, families, each=settings.lesions_per_family)


def _baselines(
    model: Model,
    volumes: Volumes,
    lesions: Sequence[Lesion],
    shapes: Sequence[LesionShape],
    seed: int,
) -> Iterator[tuple[str, Entry]]:
    """The baselines; those that learn only on families, of which they need no example."""
    for name, train in baseline_scorers(model, volumes["train"], seed, not shapes).items():
        log.info("%s", name)
        mapper = train()

        def maps(part: Tensor, mapper: Mapper = mapper) -> dict[str, Tensor]:
            return {"map": mapper(part)}

        with counting(name) as tick:
            found = evaluate(
                maps, volumes["calibration"], volumes["test"], lesions, None, seed, tick, shapes
            )
        yield name, Entry(found["map"], _seconds(maps, volumes["test"]), own=False)


def _seconds(maps: Maps, volumes: Tensor) -> float:
    """Time to map one scan: the median of three runs after one to warm up."""
    taken = []
    for _ in range(4):
        started = time.perf_counter()
        maps(volumes[:1])
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))
