"""The detection benchmark: a model's scorers and simple ones, on lesions none of them learned."""

import csv
import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.calibration import Calibration, ScoringConfig, calibrate
from medgan.anomaly.scorers import ScoringContext, chosen, make_maps
from medgan.anomaly.simple import SIMPLE
from medgan.core.config import DetectionConfig, LocaliserConfig
from medgan.core.errors import ConfigError
from medgan.core.files import write_atomic
from medgan.core.progress import counting
from medgan.core.seeding import seeded
from medgan.data.batches import PreparedVolumes
from medgan.data.lesions import FAMILIES, SHAM
from medgan.data.manifest import Manifest
from medgan.data.splits import enough_healthy
from medgan.evaluation.detection.metrics import Interval
from medgan.model.folder import fresh_localiser
from medgan.model.model import Model
from medgan.networks.gan import Networks
from medgan.networks.localiser import Localiser
from medgan.reporting.charts import draw_scorers
from medgan.reporting.pictures import Example, draw_lesions
from medgan.studies.baselines.detectors import Denoiser, PostHocEncoder, Untrained
from medgan.studies.baselines.training import train_baseline
from medgan.studies.detection.protocol import (
    FIGURES,
    Maps,
    Trial,
    Verdicts,
    all_trials,
    judge,
    merged,
    planted,
)
from medgan.training.localiser import train_localiser

log = logging.getLogger(__name__)
REPORT, TRIALS = "detection.json", "lesions.csv"
EXAMPLES = 10
FOLDS = (
    ("brighter", "noise", "push", "foreign"),
    ("darker", "blur", "pull", "reflection"),
    ("missing", "fill", "shift"),
    ("bias", "ghost"),
)
"""Families left out together, so that four localisers and not thirteen have to be trained; those
of one fold are unlike each other, and each is harder for having fewer relatives to learn from."""
FEWEST = {"train": 8, "calibration": 5, "test": 2}
RATES = (0.05, 0.1)
BATCH = 8


@dataclass(frozen=True)
class Entry:
    """One scorer's results.

    Attributes:
        verdicts: on every lesion.
        seconds: to map one scan.
        ours: whether it belongs to the model.
    """

    verdicts: Verdicts
    seconds: float
    ours: bool


def detect(
    model: Model,
    manifest: Manifest,
    out: Path,
    settings: DetectionConfig,
    localiser_config: LocaliserConfig,
    seed: int = 0,
) -> dict[str, Any]:
    """Runs every scorer over planted lesions and writes detection.json.

    What learns from planted lesions is judged on families that it never saw.

    Args:
        model: trained, with or without a localiser of its own, which is not used here.
        manifest: with the splits that it was trained with.
        out: receives cache, localisers, detection.json, a table of all lesions and pictures.
        settings: the detection section.
        localiser_config: how each localiser learns.
        seed: of lesions and of all that is trained here.

    Returns:
        Protocol, rows and the table as Markdown.

    Raises:
        ConfigError: E_SCORER for one that there is not.
        DataError: E_SPLIT with too few healthy scans.
    """
    train, calibration, test = (_volumes(manifest, split, model, out / "cache") for split in FEWEST)
    model.learn_densities(lambda: train.split(BATCH))
    able = replace(model.scoring_networks(), localise=lambda x: x)
    combinations = _combinations(settings)
    for names in combinations.values():
        chosen(able, names)
    if settings.shown not in combinations:
        raise ConfigError(
            "E_SCORER", settings.shown, "is not judged and cannot be shown",
            f"set detection.shown to one of {', '.join(combinations)}",
        )  # fmt: skip
    folds = list(_folds(model, train, calibration, test, out, settings, localiser_config, seed))
    entries = _ours(model, folds, test, settings)
    entries |= dict(_others(model, train, calibration, test, settings, seed))
    result = {
        "protocol": settings.model_dump()
        | {
            "localiser": localiser_config.model_dump(),
            "seed": seed,
            "families": list(FAMILIES),
            "folds": [list(fold) for fold in FOLDS],
            "scans": {"train": len(train), "calibration": len(calibration), "test": len(test)},
            "data_digest": manifest.digest,
            "model": model.facts,
        },
        "rows": [_row(name, entry, entries) for name, entry in entries.items()],
    }
    result["table"] = table(result["rows"])
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    draw_scorers(out / "scorers.png", result["rows"])
    members = combinations[settings.shown]
    write_atomic(out / TRIALS, _trials_table(entries[settings.shown].verdicts))
    examples = _examples(folds, calibration, test, settings.shown, members, seed)
    draw_lesions(out / "lesions.png", examples)
    return result


def _volumes(manifest: Manifest, split: str, model: Model, cache: Path) -> Tensor:
    cases = enough_healthy(manifest, split, FEWEST[split])
    prepared = PreparedVolumes(cases, model.preprocessing, cache)
    return torch.stack([prepared[number][0] for number in range(len(prepared))])


@dataclass(frozen=True)
class _Fold:
    """Families left out together, and what was made of lesions of them.

    Attributes:
        localiser: which never saw them.
        maps: of the model with this localiser.
        verdicts: by scorer or combination.
    """

    localiser: Localiser
    maps: "_ModelMaps"
    verdicts: dict[str, Verdicts]


def _folds(
    model: Model,
    train: Tensor,
    calibration: Tensor,
    test: Tensor,
    out: Path,
    settings: DetectionConfig,
    localiser_config: LocaliserConfig,
    seed: int,
) -> Iterator[_Fold]:
    """The model's maps, alone and combined; for each fold with a localiser that left it out."""
    wanted = [[f for f in fold if f in settings.families] for fold in FOLDS]
    combinations = _combinations(settings)
    for number, fold in enumerate(wanted):
        if not fold:
            continue
        localiser = _left_out_localiser(
            model, train, fold, out / f"fold{number}", localiser_config, seed
        )
        maps = _ModelMaps(model, localiser, settings.scorers)
        trials = all_trials(
            len(test), [*fold, SHAM] if number == 0 else fold, settings.radii, settings.contrasts,
            settings.each,
        )  # fmt: skip
        with counting(f"fold {number + 1} of {len(wanted)}") as tick:
            found = judge(maps, calibration, test, trials, combinations, seed, BATCH, tick)
        yield _Fold(localiser, maps, found)


def _combinations(settings: DetectionConfig) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in settings.scorers} | dict(settings.combinations)


def _ours(
    model: Model, folds: Sequence[_Fold], test: Tensor, settings: DetectionConfig
) -> dict[str, Entry]:
    """What the model's scorers made of all lesions, each family judged where it was left out."""
    entries = {}
    for name, members in _combinations(settings).items():
        verdicts = merged([fold.verdicts[name] for fold in folds])
        alone = _ModelMaps(model, folds[0].localiser, members)
        entries[name] = Entry(verdicts, _seconds(alone, test), True)
    return entries


def _trials_table(verdicts: Verdicts) -> str:
    """A row a lesion: what it is, and what was made of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Trial._fields, "above", *FIGURES])
    for trial, above, figures in zip(
        verdicts.trials, verdicts.above, verdicts.figures, strict=True
    ):
        writer.writerow([*trial, *(f"{value:.4f}" for value in (above.mean(), *figures))])
    return text.getvalue()


def _examples(
    folds: Sequence[_Fold],
    calibration: Tensor,
    test: Tensor,
    name: str,
    members: tuple[str, ...],
    seed: int,
) -> list[Example]:
    """Lesions from the worst found to the best, evenly by rank of average precision."""
    ranked = sorted(
        (float(figures[0]), fold_number, row)
        for fold_number, fold in enumerate(folds)
        for row, figures in enumerate(fold.verdicts[name].figures)
        if np.isfinite(figures[0])
    )
    picked = np.linspace(0, len(ranked) - 1, min(EXAMPLES, len(ranked))).round().astype(int)
    calibrations: dict[int, Calibration] = {}
    examples = []
    for precision, number, row in (ranked[n] for n in picked):
        fold = folds[number]
        if number not in calibrations:
            parts = [fold.maps(part) for part in calibration.split(BATCH)]
            healthy = {n: torch.cat([part[n] for part in parts]) for n in members}
            calibrations[number] = calibrate(healthy, ScoringConfig(members))
        known, trial = calibrations[number], fold.verdicts[name].trials[row]
        made = planted(test, trial, seed)
        volume = torch.from_numpy(made.volume)[None, None]
        _, heat, _ = known.score({n: m for n, m in fold.maps(volume).items() if n in members})
        recon = fold.maps.recon(volume)[0, 0].numpy()
        what = f"{trial.family}, {trial.radius:g} voxels, {trial.contrast}: {precision:.2f}"
        examples.append(
            Example(what, made.volume, recon, heat[0, 0].numpy(), made.truth, known.level)
        )
    return examples


def _left_out_localiser(
    model: Model,
    train: Tensor,
    fold: Sequence[str],
    folder: Path,
    localiser_config: LocaliserConfig,
    seed: int,
) -> Localiser:
    with seeded(seed, model.device):
        localiser = fresh_localiser(model.preprocessing, model.sizes, localiser_config.inputs)
    families = [family for family in FAMILIES if family not in fold]
    with counting(f"localiser without {', '.join(fold)}") as tick:
        train_localiser(
            model.scoring_networks(), model.sizes.latent, localiser, list(train.numpy()), families,
            localiser_config, seed, folder, tick,
        )  # fmt: skip
    return localiser.requires_grad_(False)


class _ModelMaps:
    """The model's maps with another localiser; what is one verdict a scan is so everywhere."""

    def __init__(self, model: Model, localiser: Localiser, names: tuple[str, ...]) -> None:
        self._device, self._names = model.device, names
        self._tools = replace(model.scoring_networks(), localise=localiser, inputs=localiser.inputs)

    @torch.inference_mode()
    def __call__(self, volumes: Tensor) -> dict[str, Tensor]:
        made = make_maps(self._context(volumes), self._names)
        return {name: score_map.expand(volumes.shape) for name, score_map in made.items()}

    @torch.inference_mode()
    def recon(self, volumes: Tensor) -> Tensor:
        """What the model draws of volumes."""
        return self._context(volumes).recon.cpu()

    def _context(self, volumes: Tensor) -> ScoringContext:
        volumes = volumes.to(self._device, memory_format=torch.channels_last_3d)
        return ScoringContext(volumes, self._tools)


def _others(
    model: Model,
    train: Tensor,
    calibration: Tensor,
    test: Tensor,
    settings: DetectionConfig,
    seed: int,
) -> Iterator[tuple[str, Entry]]:
    trials = all_trials(
        len(test), settings.families, settings.radii, settings.contrasts, settings.each
    )
    for name, build in _builders(model, train, settings, seed).items():
        if settings.baselines and name not in settings.baselines:
            continue
        log.info("%s", name)
        map_of = build()

        def maps(volumes: Tensor, map_of: Callable[[Tensor], Tensor] = map_of) -> dict[str, Tensor]:
            return {"map": map_of(volumes)}

        with counting(name) as tick:
            verdicts = judge(maps, calibration, test, trials, None, seed, BATCH, tick)["map"]
        yield name, Entry(verdicts, _seconds(maps, test), False)


def _builders(
    model: Model, train: Tensor, settings: DetectionConfig, seed: int
) -> dict[str, Callable[[], Callable[[Tensor], Tensor]]]:
    """Every other scorer by name; calling one lets it learn."""

    def simple(name: str) -> Callable[[], Callable[[Tensor], Tensor]]:
        def build() -> Callable[[Tensor], Tensor]:
            scorer = SIMPLE[name]()
            scorer.fit(train)
            return scorer.map

        return build

    def fresh() -> Networks:
        with seeded(seed, model.device):
            networks = Networks.build(
                model.preprocessing.shape,
                0,
                **model.sizes.model_dump(),
                condition=0,
                windows=model.preprocessing.views,
            )
        networks.to(model.device)
        return networks

    def untrained() -> Callable[[Tensor], Tensor]:
        return Untrained(fresh()).map

    def denoiser() -> Callable[[Tensor], Tensor]:
        made = Denoiser(seed, model.device)
        with counting("denoiser") as tick:
            train_baseline(made, train, settings.minutes, settings.baseline_volumes, seed, tick)
        return made.map

    def f_anogan() -> Callable[[Tensor], Tensor]:
        made = PostHocEncoder(model.networks, fresh().encoder)
        with counting("f-AnoGAN's encoder") as tick:
            train_baseline(made, train, settings.minutes, settings.baseline_volumes, seed, tick)
        return made.map

    learned = {"untrained": untrained, "denoiser": denoiser, "f_anogan": f_anogan}
    if model.networks.discriminator is None:
        del learned["f_anogan"]
    return {name: simple(name) for name in SIMPLE} | learned


def _seconds(maps: Maps, volumes: Tensor) -> float:
    """To map one scan, the median of three after one to warm up."""
    taken = []
    for _ in range(4):
        started = time.perf_counter()
        maps(volumes[:1])
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


def _row(name: str, entry: Entry, entries: dict[str, Entry]) -> dict[str, Any]:
    """All figures of one scorer, and how far it is ahead of the best of the others."""
    verdicts = entry.verdicts
    families = {t.family: None for t in verdicts.trials if t.family != SHAM}
    row: dict[str, Any] = {
        "name": name,
        "ours": entry.ours,
        "seconds": round(entry.seconds, 4),
        "auroc": _figure(verdicts.auroc()),
        **{f: _figure(verdicts.figure(f)) for f in FIGURES},
        "prevalence": round(float(np.nanmean(verdicts.prevalence)), 4),
        "false_alarms": {str(rate): _figure(verdicts.false_alarms(rate)) for rate in RATES},
        "sham": _sham(verdicts),
        "p_values": [round(float(p), 4) for p in verdicts.p_values],
        "uniform_p": round(verdicts.uniformity(), 4),
    }
    for kind, values in (
        ("family", families),
        ("radius", {t.radius: None for t in verdicts.trials}),
        ("contrast", {t.contrast: None for t in verdicts.trials}),
    ):
        row[f"by_{kind}"] = {
            str(value): {
                "auroc": verdicts.auroc(**{kind: value}).value,
                "precision": verdicts.figure("precision", **{kind: value}).value,
            }
            for value in values
        }
    others = {n: e for n, e in entries.items() if not e.ours}
    if entry.ours and others:
        for figure in ("auroc", "precision"):
            best = max(others, key=lambda n: _value(others[n].verdicts, figure))
            ahead = (
                verdicts.auroc_ahead_of(others[best].verdicts)
                if figure == "auroc"
                else verdicts.figure_ahead_of(others[best].verdicts, figure)
            )
            row[f"{figure}_ahead"] = {"of": best, **_figure(ahead)}
    return row


def _sham(verdicts: Verdicts) -> float | None:
    """AUROC of scans that went the same way without a lesion: 0.5."""
    shams = verdicts.chosen(family=SHAM)
    return round(float(verdicts.above[shams].mean()), 4) if len(shams) else None


def _value(verdicts: Verdicts, figure: str) -> float:
    return (verdicts.auroc() if figure == "auroc" else verdicts.figure(figure)).value


def _figure(interval: Interval) -> dict[str, float]:
    return {key: round(value, 4) for key, value in vars(interval).items()}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = [
        "scorer", "AUROC (95%)", "average precision (95%)", "Dice", "region overlap",
        "lesions found", "false alarms at 0.05", "seconds a scan",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in sorted(rows, key=lambda r: -r["auroc"]["value"]):
        cells = [
            f"**{row['name']}**" if row["ours"] else row["name"],
            *(
                f"{row[f]['value']:.2f} ({row[f]['low']:.2f} to {row[f]['high']:.2f})"
                for f in ("auroc", "precision")
            ),
            *(f"{row[f]['value']:.2f}" for f in ("dice", "overlap", "found")),
            f"{row['false_alarms']['0.05']['value']:.3f}",
            f"{row['seconds']:.3f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
