"""From a model and real scans to a training set of both."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medgan.core.config import AugmentConfig, Config
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_atomic
from medgan.data.conditions import check
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.splits import enough_healthy
from medgan.model.model import Model
from medgan.workflows.augmented import bids, decathlon
from medgan.workflows.augmented.cases import Made, Workshop, summary
from medgan.workflows.augmented.generation import WORK, Production, digest_of, fingerprint_of
from medgan.workflows.augmented.requests import Request, make_requests, of_shard

log = logging.getLogger(__name__)
MIXED = "mixed_manifest.json"
MARKS = {"decathlon": "dataset.json", "bids": "dataset_description.json"}
"""The file by which a set of each layout is known."""
FEWEST = 4
"""Real training scans below which there are no halves to compare."""
FEWEST_KEPT = 0.1
"""Share of the wanted scans below which the model is not fit for this."""


def augment(
    model: Model, manifest: Manifest, out: Path, config: Config, facts: dict[str, str]
) -> dict[str, Any]:
    """Writes a training set that mixes the real scans with synthetic ones.

    Only the training split is augmented. A scan that was made by an earlier, interrupted run, or
    by a shard in a subfolder of `out/shards`, is taken over if nothing that it depends on has
    changed; the result is the same.

    Args:
        model: what generates.
        manifest: with splits, those that the model was trained with.
        out: receives everything.
        config: sections augment, generate (seed, conditions, truncation, smallest component) and
            data (health).
        facts: versions, for the provenance.

    Returns:
        Counts, folder and closing lines.

    Raises:
        ConfigError: E_CONDITION, E_VALUE; E_USAGE when synthetic scans are among the real ones, or
            the folder holds a set of the other layout.
        DataError: E_SPLIT with fewer than 4 training scans, E_FILTERED when hardly any
            candidate passes.
    """
    settings, drawing = config.augment, config.generate
    _refuse_mixed(manifest, out, settings.layout)
    train = enough_healthy(manifest, "train", FEWEST)
    requests = make_requests(train, model.preprocessing.conditions, settings, drawing.conditions)
    _warn(model, manifest, requests)
    place = decathlon.place
    if settings.layout == "bids":
        place = partial(_place_bids, suffix=settings.suffix)
    fingerprint = fingerprint_of(model, manifest, config, facts)
    production = Production(
        model, manifest, train, config, Workshop(out, place, fingerprint, drawing.seed)
    )
    made = production.run(of_shard(requests, settings.shard))
    counts = summary(made)
    _check(counts, settings.tries)
    result: dict[str, Any] = {"folder": str(out), **counts}
    if settings.shard:
        result["lines"] = [
            f"shard     {settings.shard}: {_told(counts)}",
            "try       the same command without augment.shard, once all are done in OUT/shards/",
        ]
        return result
    production.workshop.clear(made)
    placed = _lay_out(out, manifest, production.cases(made), model, settings)
    splits = {split: len(manifest.split(split)) for split in SPLITS}
    provenance = {
        "synthetic": "scans named synthetic-... alone",
        "real": splits,
        **counts,
        "seed": drawing.seed,
        "smallest_component": drawing.smallest_component,
        "truncation": drawing.truncation,
        "augment": settings.model_dump(mode="json"),
        "data_digest": manifest.digest,
        "model": model.facts,
        "model_sha256": digest_of(model),
        "generated_with": facts,
        "filters": production.record(made),
        "cases": [_told_of(production.workshop, one) for one in made],
    }
    write_atomic(out / "provenance.json", json.dumps(provenance, indent=1))
    Manifest(tuple(placed), (), manifest.licence).save(out / MIXED)
    shutil.rmtree(out / WORK / "cache", ignore_errors=True)
    name = MARKS[settings.layout]
    result["real"] = splits
    result["lines"] = [
        f"mixed     {splits['train']} real and {counts['kept']} synthetic training scans, "
        f"{splits['validation'] + splits['calibration']} real to validate, "
        f"{splits['test']} to test",
        f"dropped   {_told(counts)}",
        f"read      {out / name}; medgan train CONFIG --data {out / MIXED}",
    ]
    return result


def _refuse_mixed(manifest: Manifest, out: Path, layout: str) -> None:
    """Refuses what would make a set of which nobody can say what is real.

    Raises:
        ConfigError: E_USAGE.
    """
    drawn = sum(case.covariates.get("synthetic") == "yes" for case in manifest.cases)
    if drawn:
        raise ConfigError(
            "E_USAGE", "data.source", f"{drawn} of the scans are synthetic themselves",
            "name the real scans alone, such as the manifest.json of the training",
        )  # fmt: skip
    other = MARKS["bids" if layout == "decathlon" else "decathlon"]
    if (out / other).is_file():
        raise ConfigError(
            "E_USAGE", "augment.layout", f"the folder holds a set of the other layout ({other})",
            "name another folder",
        )  # fmt: skip


def _warn(model: Model, manifest: Manifest, requests: Sequence[Request]) -> None:
    """Says what the model cannot know of these scans."""
    known = model.preprocessing.conditions
    for conditions in {json.dumps(r.conditions): r.conditions for r in requests}.values():
        for remark in check(known, conditions):
            log.warning("%s: the model has to guess", remark)
    if str(model.facts.get("data_digest", "")) != manifest.digest:
        log.warning("the model was trained on other scans or splits than these: it may have seen "
                    "scans that are to validate or test here")  # fmt: skip


def _check(counts: Mapping[str, Any], tries: int) -> None:
    """Warns when scans are missing.

    Raises:
        DataError: E_FILTERED when nearly all are.
    """
    missing = counts["wanted"] - counts["kept"]
    if counts["kept"] < FEWEST_KEPT * counts["wanted"]:
        raise DataError(
            "E_FILTERED", f"{counts['wanted']} synthetic scans wanted",
            f"only {counts['kept']} passed ({_listed(counts['dropped'])})",
            "train the model for longer, or loosen what drops them under augment",
        )  # fmt: skip
    if missing:
        log.warning("%d of %d synthetic scans are missing: none of %d candidates passed",
                    missing, counts["wanted"], tries)  # fmt: skip


def _lay_out(
    out: Path,
    manifest: Manifest,
    synthetic: Sequence[Case],
    model: Model,
    settings: AugmentConfig,
) -> list[Case]:
    """Writes what makes a data set of the files; returns all cases with the files it names."""
    copy, grid = settings.real == "copy", model.preprocessing
    if settings.layout == "bids":
        placed = bids.write_bids(
            out, manifest.cases, synthetic, grid, copy, manifest.licence, settings.suffix
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


def _place_bids(name: str, suffix: str) -> tuple[str, str]:
    return bids.place(bids.subject_of(name), suffix)


def _told_of(workshop: Workshop, made: Made) -> dict[str, Any]:
    """One synthetic scan in the provenance."""
    told: dict[str, Any] = {"request": made.request, "dropped": made.dropped}
    if made.number is None:
        return told
    return {
        "name": workshop.name(made.number), **told, "seed": workshop.seed, "number": made.number,
        "covariates": made.covariates, "figures": made.figures, "sha256": made.sha256,
    }  # fmt: skip


def _listed(dropped: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in dropped.items()) or "none"


def _told(counts: dict[str, Any]) -> str:
    lost = counts["candidates"] - counts["kept"]
    return f"{lost} of {counts['candidates']} candidates: {_listed(counts['dropped'])}"
