"""Augmented data sets: real scans and synthetic scans of a model."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medgan.core.config import Config, DataConfig
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_atomic
from medgan.data.conditions import check
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.prepared import with_preparable
from medgan.data.reading import Refuse, log_refusals
from medgan.data.splits import enough_healthy
from medgan.model.digest import digest_of
from medgan.model.model import Model
from medgan.workflows.augmented import bids, decathlon
from medgan.workflows.augmented.cases import TRIES, CaseFolder, GeneratedCase, summary
from medgan.workflows.augmented.generation import WORK, CaseGeneration, fingerprint_of
from medgan.workflows.augmented.requests import Request, make_requests
from medgan.workflows.executor.shard import Shard

log = logging.getLogger(__name__)
MIXED = "mixed_manifest.json"
MARKS = {"decathlon": "dataset.json", "bids": "dataset_description.json"}
"""The file that identifies a data set of each layout."""
READ = ("train", "validation", "calibration")
"""Splits that the filters are calibrated on."""
FEWEST = 4
"""Fewest real training scans: the filters compare two halves of them."""
FEWEST_KEPT = 0.1
"""Smallest share of requested scans; below it the model is unsuitable."""


def augment(
    model: Model,
    manifest: Manifest,
    out: Path,
    config: Config,
    facts: dict[str, str],
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Writes a training set of real and synthetic scans.

    Only the training split is augmented. Cases of an interrupted run, or of a shard in a subfolder
    of `out/shards`, are used if model, scans and settings are unchanged; the result is the same.

    Args:
        model: the generator.
        manifest: with the splits of the model's training.
        out: receives everything.
        config: sections augment, generate (seed, balance, conditions, truncation), data
            (health, suffix) and executor (shard).
        facts: versions, for the provenance.
        refuse: receives scans of all splits but test that cannot be prepared; they are left out.

    Returns:
        Counts, folder and closing lines.

    Raises:
        ConfigError: E_CONDITION, E_VALUE; E_USAGE if synthetic scans are among the real ones, or
            the folder holds a data set of the other layout.
        DataError: E_SPLIT with fewer than 4 training scans, E_FILTERED if hardly any
            candidate passes.
    """
    settings, generation = config.augment, config.generate
    shard = Shard.read(config.executor.shard)
    _refuse_mixed(manifest, out, settings.layout)
    digest = manifest.digest
    manifest = with_preparable(manifest, READ, model.preprocessing, out / WORK, refuse)
    train = enough_healthy(manifest, "train", FEWEST)
    requests = make_requests(
        train, model.preprocessing.conditions, settings.ratio, generation.balance,
        generation.conditions,
    )  # fmt: skip
    _warn(model, digest, requests)
    paths = decathlon.paths_of
    if settings.layout == "bids":
        paths = partial(_bids_paths, suffix=_suffix(config.data))
    fingerprint = fingerprint_of(model, manifest, config, facts)
    cases = CaseGeneration(
        model, manifest, train, config, CaseFolder(out, paths, fingerprint, generation.seed)
    )
    generated = cases.run(requests if shard is None else shard.of_all(requests))
    counts = summary(generated)
    _check(counts)
    result: dict[str, Any] = {"folder": str(out), **counts}
    if shard is not None:
        result["lines"] = [
            f"shard     {config.executor.shard}: {_dropped_text(counts)}",
            "try       the same command without --shard, once all are done",
        ]
        return result
    cases.store.remove_others(generated)
    placed = _lay_out(out, manifest, cases.cases(generated), model, config)
    splits = {split: len(manifest.split(split)) for split in SPLITS}
    provenance = {
        "synthetic": "scans named synthetic-... alone",
        "real": splits,
        **counts,
        "seed": generation.seed,
        "smallest_component": SMALLEST_COMPONENT,
        "truncation": generation.truncation,
        "augment": settings.model_dump(mode="json"),
        "data_digest": digest,
        "model": model.facts,
        "model_sha256": digest_of(model),
        "generated_with": facts,
        "filters": cases.record(generated),
        "cases": [_provenance_of(cases.store, one) for one in generated],
    }
    write_atomic(out / "provenance.json", json.dumps(provenance, indent=1))
    Manifest(tuple(placed), (), manifest.licence).save(out / MIXED)
    shutil.rmtree(out / WORK / "cache", ignore_errors=True)
    name = MARKS[settings.layout]
    result["real"] = splits
    result["lines"] = [
        f"mixed     {splits['train']} real and {counts['kept']} synthetic training scans, "
        f"{splits['validation'] + splits['calibration']} real of the validation and calibration "
        f"splits, {splits['test']} of the test split",
        f"dropped   {_dropped_text(counts)}",
        f"read      {out / name}; medgan train CONFIG --data {out / MIXED}",
    ]
    return result


def _refuse_mixed(manifest: Manifest, out: Path, layout: str) -> None:
    """Refuses inputs after which real and synthetic scans could not be separated.

    Raises:
        ConfigError: E_USAGE.
    """
    synthetic = sum(case.covariates.get("synthetic") == "yes" for case in manifest.cases)
    if synthetic:
        raise ConfigError(
            "E_USAGE", "data.source", f"{synthetic} of the scans are synthetic",
            "name the real scans alone, such as the manifest.json of the training",
        )  # fmt: skip
    other = MARKS["bids" if layout == "decathlon" else "decathlon"]
    if (out / other).is_file():
        raise ConfigError(
            "E_USAGE", "augment.layout", f"the folder holds the other layout ({other})",
            "name another folder",
        )  # fmt: skip


def _warn(model: Model, digest: str, requests: Sequence[Request]) -> None:
    """Warns of extrapolated conditions and of scans that the model may have seen."""
    known = model.preprocessing.conditions
    for conditions in {json.dumps(r.conditions): r.conditions for r in requests}.values():
        for remark in check(known, conditions):
            log.warning("%s: the model extrapolates", remark)
    if str(model.facts.get("data_digest", "")) != digest:
        log.warning("the model was trained on other scans or splits: it may have seen scans of "
                    "the validation, calibration and test splits")  # fmt: skip


def _check(counts: Mapping[str, Any]) -> None:
    """Warns if scans are missing.

    Raises:
        DataError: E_FILTERED if nearly all are.
    """
    missing = counts["wanted"] - counts["kept"]
    if counts["kept"] < FEWEST_KEPT * counts["wanted"]:
        raise DataError(
            "E_FILTERED", f"{counts['wanted']} synthetic scans requested",
            f"only {counts['kept']} passed ({_listed(counts['dropped'])})",
            "train the model longer, or leave filters out of augment.filters",
        )  # fmt: skip
    if missing:
        log.warning("%d of %d synthetic scans are missing: none of %d candidates passed",
                    missing, counts["wanted"], TRIES)  # fmt: skip


def _lay_out(
    out: Path,
    manifest: Manifest,
    synthetic: Sequence[Case],
    model: Model,
    config: Config,
) -> list[Case]:
    """Writes the description of the data set; returns all cases with their files."""
    settings, grid = config.augment, model.preprocessing
    copy = settings.real == "copy"
    if settings.layout == "bids":
        placed = bids.write_bids(
            out, manifest.cases, synthetic, grid, copy, manifest.licence, _suffix(config.data)
        )
    else:
        placed = decathlon.write_decathlon(
            out, manifest.cases, synthetic, grid, copy, manifest.licence
        )
    name: Callable[[str], str] = bids.subject_of if settings.layout == "bids" else str
    lists = {
        split: sorted({name(case.subject) for case in placed if case.split == split})
        for split in SPLITS
    }
    write_atomic(out / "splits.json", json.dumps(lists, indent=1))
    return placed


def _suffix(settings: DataConfig) -> str:
    """The suffix of images in a BIDS data set: that of the BIDS tree that was read, or T1w."""
    return settings.suffix or "T1w"


def _bids_paths(name: str, suffix: str) -> tuple[str, str]:
    return bids.paths_of(bids.subject_of(name), suffix)


def _provenance_of(store: CaseFolder, case: GeneratedCase) -> dict[str, Any]:
    """One generated case in the provenance."""
    row: dict[str, Any] = {"request": case.request, "dropped": case.dropped}
    if case.number is None:
        return row
    return {
        "name": store.name(case.number), **row, "seed": store.seed, "number": case.number,
        "covariates": case.covariates, "metrics": case.metrics, "sha256": case.sha256,
    }  # fmt: skip


def _listed(dropped: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in dropped.items()) or "none"


def _dropped_text(counts: dict[str, Any]) -> str:
    lost = counts["candidates"] - counts["kept"]
    return f"{lost} of {counts['candidates']} candidates: {_listed(counts['dropped'])}"
