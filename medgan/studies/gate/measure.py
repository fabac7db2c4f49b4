"""What a gate measures of one model: scans of a manifest that it did not learn from."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from medgan.anomaly.alarms import is_alarm
from medgan.core.config import CompareConfig, GateConfig
from medgan.core.progress import counting
from medgan.data.checks import CheckedScan
from medgan.data.lesions import FAMILIES
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import enough_preparable, read_scans
from medgan.data.reading import Refuse, usable
from medgan.data.splits import enough_healthy
from medgan.evaluation.interval import Interval, proportion
from medgan.evaluation.sets.distance import kernel_interval
from medgan.model.model import Model
from medgan.networks.metrics import band_features
from medgan.studies.comparison import compare
from medgan.studies.detection.protocol import all_lesions, evaluate
from medgan.studies.detection.scorers import ModelMaps
from medgan.studies.generated_sets import read_generated_set

log = logging.getLogger(__name__)
RATE = 0.05
"""The p-value from which a healthy scan is a false alarm."""
FEWEST = 10
"""Healthy test scans: with fewer, false alarms say nothing."""
FEWEST_TO_COMPARE, FEWEST_CALIBRATION = 4, 5
SEED = 0
Read = Callable[[Case, bool], CheckedScan]


def measure(
    model: Model,
    uri: str,
    manifest: Manifest,
    out: Path,
    settings: GateConfig,
    refuse: Refuse,
    read: Read,
) -> dict[str, Interval]:
    """The metrics that `settings.limits` names and that apply to the model.

    Args:
        model: any.
        uri: it was loaded by.
        manifest: with calibration and test scans that it did not learn from; for the Dice ratio
            also training scans.
        out: receives the cache.
        settings: of the gate.
        refuse: receives scans that cannot be used.
        read: reads a case of the manifest, as `ReadScans.read`.

    Raises:
        DataError: E_SPLIT with too few scans.
    """
    wanted = {name for name, limit in settings.limits.items() if limit is not None}
    one_channel = len(model.preprocessing.channels) == 1
    draws = model.networks.synthesises and one_channel
    found: dict[str, Interval] = {}
    if "kernel_distance" in wanted and draws:
        log.info("%s: synthetic beside real scans", uri)
        found["kernel_distance"] = _kernel_distance(model, uri, manifest, out, settings, refuse)
    if "dice_ratio" in wanted and draws and model.preprocessing.labels:
        found |= _dice_ratio(model, uri, manifest, out, refuse)
    if model.calibration is None:
        return found
    if wanted & {"auroc", "average_precision"} and one_channel:
        found |= _planted_lesions(model, manifest, out, settings, refuse)
    if wanted & {"false_alarms", "not_comparable"}:
        found |= _healthy_scores(model, manifest, refuse, read)
    return {name: value for name, value in found.items() if name in wanted}


def _kernel_distance(
    model: Model, uri: str, manifest: Manifest, out: Path, settings: GateConfig, refuse: Refuse
) -> Interval:
    """As in a comparison: test scans are the reference, as many synthetic as training scans."""
    grid = model.preprocessing
    test = enough_preparable(manifest, "test", FEWEST_TO_COMPARE, grid, out, refuse)
    count = settings.samples or max(len(manifest.split("train")), len(test))
    images = read_generated_set(uri, lambda _: model, count, SEED).images
    real = read_scans(test, grid, out).images
    return kernel_interval(band_features(real).cpu(), band_features(images).cpu())


def _dice_ratio(
    model: Model, uri: str, manifest: Manifest, out: Path, refuse: Refuse
) -> dict[str, Interval]:
    """Of the comparison with real scans, which trains segmenters on both."""
    generated = read_generated_set(uri, lambda _: model, 2 * len(manifest.split("train")), SEED)
    folder = out / f"dice-{uri.rpartition('/')[2]}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = CompareConfig(segmentation=True)  # pyright: ignore[reportCallIssue]
    rows = compare([generated], manifest, folder, settings, model.device, refuse)["rows"]
    ratio = rows[-1].get("dice_ratio")
    if ratio is None:
        return {}
    return {"dice_ratio": Interval(ratio["mean"], ratio["low"], ratio["high"])}


def _planted_lesions(
    model: Model, manifest: Manifest, out: Path, settings: GateConfig, refuse: Refuse
) -> dict[str, Interval]:
    """The scores and maps of the model on test scans with and without planted lesions."""
    calibration = _volumes(manifest, "calibration", FEWEST_CALIBRATION, model, out, refuse)
    test = _volumes(manifest, "test", FEWEST_TO_COMPARE, model, out, refuse)
    members = model.needed_calibration.scoring_config.scorers
    lesions = all_lesions(len(test), tuple(FAMILIES), each=settings.lesions_each)
    with counting("planted lesions") as tick:
        found = evaluate(
            ModelMaps(model, None, members), calibration, test, lesions, {"model": members}, SEED,
            tick,
        )["model"]  # fmt: skip
    return {
        "auroc": found.auroc(),
        "average_precision": found.metric("average_precision"),
    }


def _volumes(
    manifest: Manifest, split: str, fewest: int, model: Model, out: Path, refuse: Refuse
) -> Tensor:
    cases = enough_preparable(manifest, split, fewest, model.preprocessing, out, refuse)
    return read_scans(cases, model.preprocessing, out).images


@torch.inference_mode()
def _healthy_scores(
    model: Model, manifest: Manifest, refuse: Refuse, read: Read
) -> dict[str, Interval]:
    """False alarms of the model's own calibration, and how often it does not judge at all."""
    cases = enough_healthy(manifest, "test", FEWEST)

    def p_value(case: Case) -> float | None:
        scan = model.prepare(read(case, False), case.case)
        return model.score(scan, covariates=model.needed_calibration.covariates_of(case)).p_value

    values: list[float | None] = []
    results, refusals = usable(cases, p_value)
    with counting("healthy scans") as tick:
        for value in results:
            values.append(value)
            tick(len(values), len(cases))
    refuse(refusals)
    judged = [value for value in values if value is not None]
    alarms = sum(is_alarm(value, RATE) for value in judged)
    found = {"not_comparable": proportion(len(values) - len(judged), max(len(values), 1))}
    if judged:
        found["false_alarms"] = proportion(alarms, len(judged))
    return found
