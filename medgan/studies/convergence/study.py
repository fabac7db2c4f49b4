"""How soon samples of generators come near to real scans, in processor minutes."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgan.core.config import Config, Preprocessing, build
from medgan.core.errors import ConfigError
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json
from medgan.core.progress import counting
from medgan.data.batches import BatchStream, PreparedVolumes
from medgan.data.manifest import Manifest
from medgan.data.reading import Refuse
from medgan.data.splits import require_enough
from medgan.data.template import aligned_plan
from medgan.networks.device import choose_device
from medgan.networks.metrics import band_features, kernel_distance
from medgan.reporting.charts import plot_convergence
from medgan.studies.baselines.training import baseline_steps
from medgan.studies.convergence.curves import (
    Point,
    Training,
    clock,
    followed,
    reached,
    row,
    table,
)
from medgan.studies.generated_sets import BASELINES
from medgan.training.loop import Waiting, step
from medgan.training.samples import evaluate_samples, make_reference
from medgan.training.tasks import chosen_task

log = logging.getLogger(__name__)
REPORT, PLOT = "convergence.json", "convergence.png"
OURS = "medgan"
SAMPLES = 64
"""Of an evaluation."""
_SPLITS = {
    "train": ("train",), "validation": ("validation",), "unseen": ("calibration", "test"),
}  # fmt: skip
"""Scans to learn from, to adapt augmentation by, and to compare with: no training reads those."""
Begin = Callable[[int, str], Training]
"""Begins a training with a seed, under a name."""
_FEWEST = {"train": 8, "validation": 2, "unseen": 8}


@dataclass(frozen=True)
class _Scans:
    """Prepared scans of one grid.

    Attributes:
        preprocessing: of the grid.
        splits: by name.
    """

    preprocessing: Preprocessing
    splits: dict[str, PreparedVolumes]

    def images(self, name: str) -> Tensor:
        """All images of a split, (N, 1, X, Y, Z)."""
        volumes = self.splits[name]
        return torch.stack([volumes[number][0] for number in range(len(volumes))])


def convergence(config: Config, manifest: Manifest, out: Path, refuse: Refuse) -> dict[str, Any]:
    """Trains generators one after the other and measures how soon their samples are near.

    Trainings that were measured before are not run again; one that was stopped begins anew.
    Evaluations are not timed, but those that medgan's adaptive augmentation needs.

    Args:
        config: data, model, train and convergence sections.
        manifest: with splits.
        out: receives cache, curves, samples, convergence.json and convergence.png.
        refuse: receives scans that cannot be prepared; they are left out.

    Returns:
        rows, curves, floor (the distance of training scans) and the table as Markdown.

    Raises:
        DataError: E_SPLIT with too few scans.
        ConfigError: E_KEY, E_VALUE, E_SET for a variant (`_variant`).
    """
    settings = config.convergence
    recipes = {OURS: config} if OURS in settings.generators else {}
    recipes |= {name: _variant(config, name, over) for name, over in settings.variants.items()}
    scans = _read(config, manifest, out, refuse)
    real = band_features(scans.images("unseen"))
    floor = float(kernel_distance(real, band_features(scans.images("train"))))

    def curves_of(name: str, minutes: float, begin: Begin) -> list[list[Point]]:
        seeds = range(config.train.seed, config.train.seed + settings.seeds)
        return [_measured(out, name, seed, minutes, config, begin) for seed in seeds]

    curves = {
        name: curves_of(name, settings.minutes, _begin_ours(recipe, scans, out))
        for name, recipe in recipes.items()
    }
    limit = settings.factor * _soonest(curves, config)
    for name in settings.generators:
        if name != OURS:
            curves[name] = curves_of(name, limit, _begin_peer(name, scans, real, config))
    rows = [row(name, found, settings.goals) for name, found in curves.items()]
    result = {
        "rows": rows,
        "curves": {name: [[*map(list, one)] for one in found] for name, found in curves.items()},
        "floor": round(floor, 4),
        "table": table(rows, settings.goals),
    }
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    plot_convergence(out / PLOT, curves, settings.goals)
    return result


def _variant(config: Config, name: str, overrides: Sequence[str]) -> Config:
    """The configuration with some settings changed.

    Raises:
        ConfigError: E_KEY, E_VALUE, E_SET; also where it is named like a generator, or its name
            cannot be that of a file, or it changes more than model and train.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(
            "E_VALUE", "convergence.variants", f"{name!r} cannot name a file",
            "use letters, digits, _ and - alone",
        )  # fmt: skip
    changed = build(config.model_dump(), overrides)
    same = config.model_copy(update={"model": changed.model, "train": changed.train})
    if changed != same or name in (OURS, *BASELINES):
        raise ConfigError(
            "E_VALUE", f"convergence.variants.{name}", "a variant has a name of its own and other "
            "settings of model and train alone", "compare other scans in a run of their own",
        )  # fmt: skip
    return changed


def _read(config: Config, manifest: Manifest, out: Path, refuse: Refuse) -> _Scans:
    """The scans of all splits on the grid of the training ones."""
    cases = {name: [c for n in names for c in manifest.split(n)] for name, names in _SPLITS.items()}
    for name, fewest in _FEWEST.items():
        require_enough(cases[name], " and ".join(_SPLITS[name]), fewest)
    preprocessing = aligned_plan(config.data, cases["train"], out / "cache")
    splits = {n: PreparedVolumes(some, preprocessing, out / "cache") for n, some in cases.items()}
    with counting("preparing scans") as tick:
        for volumes in splits.values():
            refuse(volumes.warm(tick))
    for name, fewest in _FEWEST.items():
        require_enough(splits[name].cases, " and ".join(_SPLITS[name]), fewest)
    return _Scans(preprocessing, splits)


def _soonest(curves: dict[str, list[list[Point]]], config: Config) -> float:
    """Minutes of the soonest recipe, its slowest seed, to the smallest goal that any reached.

    A recipe, medgan or a variant, reached a goal if all its trainings did. Where none reached any,
    or there is none, all the minutes that a recipe has.
    """
    settings = config.convergence
    for goal in sorted(settings.goals):
        found = [[reached(one, goal) for one in seeds] for seeds in curves.values()]
        times = [[minutes for minutes in seeds if minutes is not None] for seeds in found]
        whole = [max(t) for t, seeds in zip(times, found, strict=True) if len(t) == len(seeds)]
        if whole:
            return min(whole)
    return settings.minutes


def _begin_ours(recipe: Config, scans: _Scans, out: Path) -> Begin:
    """What begins a training of medgan for so many processor minutes, with a seed."""
    minutes = recipe.convergence.minutes

    def begin(seed: int, name: str) -> Training:
        changed = {"seed": seed, "minutes": minutes, "volumes": 10**9}
        train = recipe.train.model_copy(update=changed)
        device = choose_device(train.device)
        task = chosen_task(scans.preprocessing, recipe.model_copy(update={"train": train}))
        state = task.start(device)
        learned, adapted = scans.splits["train"], scans.splits["validation"]
        task = task.informed(learned, device)
        evaluate = task.evaluator(state, adapted, learned)
        pictures = out / "samples" / name
        stream = BatchStream(learned, train.batch, seed, prepare=task.arrays)
        reference = make_reference(state, scans.splits["unseen"], learned, seed)

        def steps() -> Iterator[int]:
            with closing(iter(stream)) as batches:
                waiting = Waiting(batches, device)
                while True:
                    started = clock(device)
                    step(task, state, waiting)
                    if task.schedule.passed(state, task.schedule.evaluate_every):
                        evaluate(state, pictures / "adapting.png")
                    state.seconds += clock(device) - started
                    yield state.volumes_seen

        def distance() -> float:
            picture = pictures / f"{state.volumes_seen:09d}.png"
            found = evaluate_samples(state, picture, reference, None, train.batch, 0)
            return found["samples/kernel_distance"]

        return Training(steps(), distance)

    return begin


def _begin_peer(name: str, scans: _Scans, real: Tensor, config: Config) -> Begin:
    """What begins a training of a generator from the literature, with a seed."""
    device = choose_device(config.train.device)

    def begin(seed: int, _: str) -> Training:
        baseline = BASELINES[name](scans.preprocessing.shape, seed, device)
        steps = baseline_steps(baseline, scans.images("train"), seed)

        def distance() -> float:
            samples = baseline.sample(SAMPLES, torch.Generator().manual_seed(seed + 1))
            return float(kernel_distance(real, band_features(samples)))

        return Training(steps, distance)

    return begin


def _measured(
    out: Path,
    name: str,
    seed: int,
    minutes: float,
    config: Config,
    begin: Begin,
) -> list[Point]:
    """The curve of a training: of an earlier run, or of one that is run now."""
    path = out / "curves" / f"{name}-{seed}.json"
    if path.is_file():
        return [Point(*values) for values in read_json(path)]
    log.info("%s, seed %d: %.0f processor minutes at most", name, seed, minutes)
    device, goal = choose_device(config.train.device), min(config.convergence.goals)
    training, curve = begin(seed, f"{name}-{seed}"), list[Point]()
    try:
        for point in followed(training, minutes, device):
            log.info("%.1f min, %d volumes: %.2f", point.minutes, point.volumes, point.distance)
            curve.append(point)
            if point.distance <= goal:
                break
    except FloatingPointError:
        log.warning("%s, seed %d: weights are not finite any more; it ends here", name, seed)
    write_atomic(path, json.dumps([list(point) for point in curve]))
    return curve
