"""The benchmark: a model's translations of test patients against real images, beside floors."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_atomic
from medgan.core.progress import counting
from medgan.core.table_files import table_text
from medgan.data.checks import CheckedScan
from medgan.data.manifest import Case, Manifest
from medgan.data.reading import Refuse, log_refusals, read_case, usable
from medgan.evaluation.translation.metrics import TranslationMetrics
from medgan.evaluation.translation.spread import SpreadQuality, spread_quality
from medgan.model.model import Model
from medgan.studies.translation.floors import fit_floors
from medgan.studies.translation.judge import FOLDS, Judged, judge
from medgan.studies.translation.pictures import write_pictures
from medgan.studies.translation.report import ONE, OWN, ChannelResult, csv_rows, summary
from medgan.studies.translation.scans import Channels, PairedScan, paired_scan
from medgan.studies.translation.translated import Images, Translated

REPORT, TABLE, PICTURES = "translation.json", "translation.csv", "translation_*.png"
LIMITS = (0.001, 0.999)
"""Quantiles of the target in the bodies of training patients between which PSNR and SSIM are."""
ANSWERS = 8
PLAIN = ("constant", "mean image")
"""Methods that are not judged: nobody would take their images for real."""


def run_translation(
    models: Mapping[str, Model],
    manifest: Manifest,
    out: Path,
    refuse: Refuse = log_refusals,
    read: Callable[[Case], CheckedScan] = read_case,
    seed: int = 0,
) -> dict[str, Any]:
    """Translates test patients and compares with the real images.

    Floors learn from the training patients. The judge learns from validation and test patients,
    of whom each is judged by classifiers that saw others.

    Args:
        models: by the names of their rows; `OWN` is the one that all are compared with.
        manifest: registered scans, split as for the training of the models.
        out: receives translation.json, translation.csv, a row a patient and method, and a picture
            for each target channel.
        refuse: receives scans that cannot be used; they are left out.
        read: gives the checked files of a patient.
        seed: of answers, floors and the judge.

    Returns:
        Rows and the tables as Markdown.

    Raises:
        ConfigError: E_CHANNEL where models do not translate the same channels.
        DataError: E_SPLIT without training patients or with too few others.
        ModelError: E_TRANSLATOR for a model that does not translate.
    """
    channels = _channels(models)
    splits: dict[str, list[PairedScan]] = {}
    checked: dict[str, CheckedScan] = {}

    def load(case: Case) -> PairedScan:
        found = read(case)
        scan = paired_scan(found, channels, case.case, case.subject)
        if case.split != "train":
            checked[case.case] = found
        return scan

    for split in ("train", "validation", "test"):
        found, refusals = usable(manifest.split(split), load)
        splits[split] = list(found)
        refuse(refusals)
    _require_enough(splits)
    judged = [*splits["validation"], *splits["test"]]
    patients = _translated(models, channels, splits["train"], judged, checked, seed)
    results = {
        channel: _result(channel, channels, splits, patients, seed) for channel in channels.target
    }
    values = summary(results)
    values["protocol"] = {
        "source": list(channels.source), "target": list(channels.target), "answers": ANSWERS,
        "seed": seed, "digest": manifest.digest, "judge_patients": len(judged),
        "training_patients": len(splits["train"]),
        "models": {name: model.facts for name, model in models.items()},
    }  # fmt: skip
    write_atomic(out / REPORT, json.dumps(values, indent=1))
    write_atomic(out / TABLE, table_text(csv_rows(results)))
    tested = patients[len(splits["validation"]) :]
    for channel, found in results.items():
        path = out / PICTURES.replace("*", channel)
        write_pictures(path, channel, channels, tested, found.metrics[OWN])
    return values


def _channels(models: Mapping[str, Model]) -> Channels:
    """What all models translate."""
    known = {name: model.networks.needed_translator.conversion for name, model in models.items()}
    own = known[OWN]
    for name, other in known.items():
        if (other.source, other.target) != (own.source, own.target):
            raise ConfigError(
                "E_CHANNEL", f"translation.others.{name}", "translates other channels",
                f"name a model of {'+'.join(own.source)} to {'+'.join(own.target)}",
            )  # fmt: skip
    return Channels(own.source, own.target, models[OWN].preprocessing)


def _require_enough(splits: Mapping[str, Sequence[PairedScan]]) -> None:
    others = len(splits["validation"]) + len(splits["test"])
    if not splits["train"] or not splits["test"] or others < FOLDS:
        counts = ", ".join(f"{len(scans)} {split}" for split, scans in splits.items())
        raise DataError(
            "E_SPLIT", "the patients", f"{counts}: too few",
            f"needs training and test patients, and {FOLDS} to test and validate together",
        )  # fmt: skip


def _translated(
    models: Mapping[str, Model],
    channels: Channels,
    train: list[PairedScan],
    scans: Sequence[PairedScan],
    checked: Mapping[str, CheckedScan],
    seed: int,
) -> list[Translated]:
    """Every patient by every method."""
    with counting("fitting floors") as tick:
        floors = {}
        for number, channel in enumerate(channels.target, start=1):
            floors[channel] = fit_floors(train, channel, seed)
            tick(number, len(channels.target))
    found = []
    with counting("translating") as tick:
        for number, scan in enumerate(scans, start=1):
            drawn: dict[str, Images] = {channel: {} for channel in channels.target}
            spread: Images = {}
            for name, model in models.items():
                _translate(name, model, checked[scan.case], scan.case, seed, drawn, spread)
            for channel, methods in floors.items():
                drawn[channel] |= {name: floor(scan) for name, floor in methods.items()}
            found.append(Translated(scan, drawn, spread))
            tick(number, len(scans))
    return found


def _translate(
    name: str,
    model: Model,
    scan: CheckedScan,
    case: str,
    seed: int,
    drawn: dict[str, Images],
    spread: Images,
) -> None:
    """Adds a model's images of a scan, of which it sees the source channels alone."""
    given = CheckedScan({channel: scan.images[channel] for channel in model.source})
    found = model.translate(model.prepare(given, case), ANSWERS, seed)
    for channel, image in found.images.items():
        drawn[channel][name] = image.canonical().data
        if found.answers > 1:
            drawn[channel][name + ONE] = found.answer[channel].canonical().data
            if name == OWN:
                spread[channel] = found.spread[channel].canonical().data


def _result(
    channel: str,
    channels: Channels,
    splits: Mapping[str, Sequence[PairedScan]],
    patients: Sequence[Translated],
    seed: int,
) -> ChannelResult:
    """All metrics of one target channel."""
    bodies = [scan.target[channel][scan.region(channel)] for scan in splits["train"]]
    low, high = np.quantile(np.concatenate(bodies), LIMITS)
    limits = float(low), float(high)
    tested = patients[len(splits["validation"]) :]
    methods = list(patients[0].drawn[channel])
    metrics = {name: [_metrics(one, channel, name, limits) for one in tested] for name in methods}
    with counting("judging") as tick:
        judged, shown = {}, [name for name in methods if name not in PLAIN]
        for number, name in enumerate(shown, start=1):
            judged[name] = judge([_judged(one, channels, channel, name) for one in patients], seed)
            tick(number, len(shown))
    spread = [_spread(one, channel) for one in tested if channel in one.spread]
    cases = [one.scan.case for one in tested]
    return ChannelResult(channels.unit(channel), limits, cases, metrics, judged, spread)


def _metrics(
    one: Translated, channel: str, method: str, limits: tuple[float, float]
) -> TranslationMetrics:
    scan = one.scan
    return TranslationMetrics.of(
        one.drawn[channel][method], scan.target[channel], scan.region(channel), scan.tumour, limits
    )


def _spread(one: Translated, channel: str) -> SpreadQuality:
    error = one.drawn[channel][OWN] - one.scan.target[channel]
    return spread_quality(error, one.spread[channel], one.scan.region(channel))


def _judged(one: Translated, channels: Channels, channel: str, method: str) -> Judged:
    source = np.stack([channels.scaled(image, name) for name, image in one.scan.source.items()])
    real, drawn = (
        channels.scaled(image, channel)[None]
        for image in (one.scan.target[channel], one.drawn[channel][method])
    )
    return Judged(source, real, drawn, one.scan.region(channel))
