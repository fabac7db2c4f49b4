"""From a manifest to a trained model folder."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml

from medgan.core.config import Config, Preprocessing, without_names
from medgan.core.files import write_atomic
from medgan.core.place import place
from medgan.core.progress import counting
from medgan.core.ranks import Ranks
from medgan.data.batches import BatchStream, PreparedVolumes
from medgan.data.checks import CheckedScan
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.reading import ReadScans, Refuse, log_refusals
from medgan.data.template import aligned_plan
from medgan.model.inversion import learn_hull
from medgan.model.model import Model
from medgan.networks.device import choose_device
from medgan.tracking.mirror import Mirror
from medgan.tracking.record import CONFIG, Record, recorded
from medgan.tracking.system_metrics import WithSystemMetrics
from medgan.tracking.tracker import METRICS, JsonlTracker, Tracker, Trackers, read_metrics
from medgan.training.checkpoint import restore_best, restore_newest
from medgan.training.loop import train
from medgan.training.memory import refuse_what_cannot_fit
from medgan.training.monitor import Criteria
from medgan.training.requirements import require_enough, require_same_training, require_shares
from medgan.training.samples import label_offset, remove_later_pictures
from medgan.training.start import start_from, start_plan
from medgan.training.state import TrainingState
from medgan.training.tasks import chosen_task

log = logging.getLogger(__name__)
MOST_VALIDATION = 40
FEW_VALIDATION = 8
"""With fewer, chance outweighs visible faults. Of 188 hippocampi, noise of 0.1 added 0.4 to the
kernel distance; that of real scans varied by 0.68 with 2 validation scans, 0.40 with 4, 0.25 with 8
and 0.16 with 16 (standard deviation over 200 draws, 2026-11-28)."""


def train_model(
    config: Config,
    manifest: Manifest,
    out: Path,
    model_folder: Path,
    facts: dict[str, str],
    open_mirror: Callable[[], Mirror | None],
    page: Tracker | None = None,
    scans: ReadScans | None = None,
    refuse: Refuse = log_refusals,
    start: Model | None = None,
    ranks: Ranks | None = None,
) -> dict[str, Any]:
    """Trains, or resumes a training, and writes the model folder.

    Several processes that train together all call it with the same folder. The first of them
    writes there; all prepare scans.

    Args:
        config: all settings.
        manifest: with splits.
        out: receives cache, checkpoints, samples and metrics.jsonl.
        model_folder: receives the model, without calibration.
        facts: versions, for the card.
        open_mirror: begins to copy the training into MLflow, or gives None.
        page: called after each evaluation, once its metrics and picture are on disk.
        scans: those that are in memory since they were checked; cleared once they are prepared.
        refuse: receives training and validation scans that cannot be prepared.
        start: model whose weights a new training starts from.
        ranks: the processes that train together; None for this one alone.

    Returns:
        Volumes seen, the model folder, and metrics of the weights that were kept; of other
        processes than the first, nothing.

    Raises:
        ConfigError: E_RANKS when the processes cannot share a batch.
        DataError: E_SPLIT with too few training or validation scans.
        EnvironmentFailure: E_MEMORY when a step would not fit.
        ModelError: E_START when the model to start from does not fit.
        Interrupted, TrainingDiverged, EnvironmentFailure: from the loop.
    """
    cases, validation_cases = manifest.split("train"), manifest.split("validation")
    require_enough(len(cases), len(validation_cases), "add healthy scans or set data.fractions")
    scans, ranks = scans or ReadScans(0), ranks or Ranks()
    require_shares(config.train, ranks)
    preprocessing = ranks.after_leader(
        lambda: _planned(config, cases, out / "cache", scans.read, start)
    )
    _log_plan(preprocessing)
    device = choose_device(config.train.device)
    task = chosen_task(preprocessing, config)
    state = task.start(device)
    state.ranks = ranks
    begun_with = "" if start is None else start.digest
    facts = facts | ({"started_from": begun_with} if begun_with else {})
    ranks.by_leader(
        lambda: require_same_training(out / "checkpoints", cases, preprocessing, config, begun_with)
    )
    if start is not None:
        start_from(state, start)
    if restore_newest(state, out / "checkpoints"):
        log.info("resumed at %d volumes", state.volumes_seen)
        if config.train.precision != "auto":
            state.bf16 = config.train.precision == "bf16"
    state.bf16 = ranks.by_leader(lambda: state.bf16)
    if config.train.deterministic:
        facts = facts | {"deterministic": _repeatable_on(state)}
    refuse_what_cannot_fit(config, preprocessing, device, ranks)
    if ranks.leads:
        remove_later_pictures(out, state.volumes_seen)  # of a run that was killed later
    if ranks.size > 1:  # each prepares its share, then all find all of them
        PreparedVolumes(
            cases[ranks.rank :: ranks.size], preprocessing, out / "cache", scans.read
        ).warm()
        ranks.exchange(True)
    volumes = PreparedVolumes(cases, preprocessing, out / "cache", scans.read)
    held_out = PreparedVolumes(
        validation_cases[:MOST_VALIDATION], preprocessing, out / "cache", scans.read
    )
    with counting("preparing scans") as tick:
        refuse(volumes.warm(tick))
    ranks.after_leader(lambda: refuse(held_out.warm()))
    scans.clear()  # training needs the memory
    require_enough(len(volumes), len(held_out), "see above why scans were left out")
    if len(held_out) < FEW_VALIDATION and ranks.leads:
        log.warning(
            "%d validation scans are few: metrics of samples, and with them the choice of weights, "
            "depend on chance; %d or more are better (data.splits, data.fractions)",
            len(held_out), FEW_VALIDATION,
        )  # fmt: skip
    task = task.informed(volumes, device)
    evaluate, criteria = task.evaluator(state, held_out, volumes), Criteria.of(config.train)
    stream = BatchStream(
        volumes, config.train.batch, config.train.seed, 0, task.arrays, ranks.rank, ranks.size
    )
    if not ranks.leads:
        train(task, state, stream, evaluate, criteria, Trackers([]), out, start is not None)
        return {}
    jsonl = JsonlTracker(out / METRICS, state.volumes_seen)
    record = _describe(config, preprocessing, manifest, facts, out)
    with recorded(record, out, state.volumes_seen > 0), open_mirror() or nullcontext() as mlflow:
        trackers = Trackers([one for one in (jsonl, mlflow, page) if one is not None])
        tracker = WithSystemMetrics(trackers, out, device.type == "cuda")
        train(task, state, stream, evaluate, criteria, tracker, out, start is not None)
    outcome = _choose_weights(state, criteria, out / "checkpoints")
    metrics = _metrics_at(out / METRICS, outcome.get("best_at", state.volumes_seen))
    record = {
        "training_scans": len(volumes),
        "volumes_seen": state.volumes_seen,
        **outcome,
        "data_digest": manifest.digest,
        "training_digest": manifest.training_digest,
        **({"data_licence": manifest.licence} if manifest.licence else {}),
        **facts,
        **{name.removeprefix("samples/"): value for name, value in metrics.items()},
    }
    model = Model(state.average, preprocessing, config.model, record, densities=task.densities)
    model.label_offset = label_offset(volumes)
    if model.networks.synthesises:
        model.hull = learn_hull(model, volumes.batches(), held_out.batches())
    model.save(model_folder)
    log.info("model: %s", model_folder)
    return {"volumes_seen": state.volumes_seen, "model": str(model_folder), **outcome, **metrics}


def _planned(
    config: Config,
    cases: list[Case],
    cache: Path,
    read: Callable[[Case, bool], CheckedScan],
    start: Model | None,
) -> Preprocessing:
    """The preprocessing of a training, from its scans or from the model that it starts from."""
    if start is None:
        return aligned_plan(config.data, cases, cache, read)
    preprocessing = start_plan(config, cases, start, config.train.task)
    if preprocessing.align != "none" and preprocessing.template is None:
        preprocessing = aligned_plan(config.data, cases, cache, read)
    return preprocessing


def _repeatable_on(state: TrainingState) -> str:
    """What has to be the same for another training to end in the same bytes."""
    precision = "bf16" if state.bf16 else "fp32"
    return f"{state.device.type}, {torch.get_num_threads()} threads, {precision}"


def _log_plan(preprocessing: Preprocessing) -> None:
    log.info(
        "grid: %s voxels of %s mm; labels: %s; conditions: %s",
        " x ".join(map(str, preprocessing.shape)),
        " x ".join(f"{s:g}" for s in preprocessing.spacing),
        ", ".join(map(str, preprocessing.labels)) or "none",
        ", ".join(condition.name for condition in preprocessing.conditions) or "none",
    )


def _describe(
    config: Config,
    preprocessing: Preprocessing,
    manifest: Manifest,
    facts: dict[str, str],
    out: Path,
) -> Record:
    """What MLflow is told about settings and data, without paths of scans; writes resolved.yaml."""
    public = without_names(config)
    public["data"] |= preprocessing.model_dump(mode="json", exclude={"conditions"})
    write_atomic(out / CONFIG, yaml.safe_dump(public))
    flat = {
        f"{section}.{key}": value
        for section, values in public.items()
        if section in ("data", "model", "train", "score")
        for key, value in values.items()
    }
    counts = {split: len(manifest.split(split)) for split in SPLITS}
    tags = {**facts, **place(), "manifest_sha256": manifest.digest}
    return Record(flat, tags, manifest.digest, counts)


def _choose_weights(state: TrainingState, criteria: Criteria, checkpoints: Path) -> dict[str, Any]:
    """Replaces the last averaged weights by the best ones, if these are kept; what happened.

    Args:
        state: at its end.
        criteria: by which there are best weights, and whether they are taken.
        checkpoints: where they lie.
    """
    monitor, outcome = state.monitor, {}
    if monitor.rollbacks:
        outcome["rollbacks"] = monitor.rollbacks
    if reason := monitor.stop_reason(criteria):
        outcome["stopped_early"] = reason
        log.info("stopped early at %d volumes: %s", state.volumes_seen, reason)
    mine = criteria.chooses and monitor.metric == criteria.metric
    if mine and restore_best(state, checkpoints):
        outcome |= {"best_at": monitor.best_at, "best_by": monitor.metric}
        log.info("best %s at %d volumes", monitor.metric, monitor.best_at)
    return outcome


def _metrics_at(path: Path, volumes_seen: int) -> dict[str, float]:
    """Sample metrics of the last evaluation up to `volumes_seen`."""
    found: dict[str, float] = {}
    for row in read_metrics(path):
        if row["volumes_seen"] <= volumes_seen:
            found |= {k: round(value, 5) for k, value in row.items() if k.startswith("samples/")}
    return found
