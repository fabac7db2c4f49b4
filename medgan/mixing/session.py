"""From a model and real scans to a training set of both."""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from medgan.config import Config
from medgan.data.conditions import check
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.splits import enough_healthy
from medgan.errors import DataError
from medgan.evaluation.segmentation import fresh_segmenter
from medgan.files import write_atomic
from medgan.mixing import bids, decathlon
from medgan.mixing.cases import Made, Workshop, summary
from medgan.mixing.filters import FIRST, Filters, calibrate_filters
from medgan.mixing.requests import Request, make_requests, of_shard
from medgan.model import Model
from medgan.progress import counting
from medgan.studies.scans import read_scans

log = logging.getLogger(__name__)
WORK, SHARDS = "work", "shards"
MIXED = "mixed_manifest.json"
FEWEST = 4
"""Real training scans below which there are no halves to compare."""
FEWEST_KEPT = 0.1
"""Share of the wanted scans below which the model is not fit for this."""
_DEPENDED_ON = {
    *("tries", "appearance", "realism", "consistency", "segmenter_steps", "volumes", "privacy"),
}


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
        ConfigError: E_CONDITION, E_VALUE.
        DataError: E_SPLIT with fewer than 4 training scans, E_FILTERED when hardly any
            candidate passes.
    """
    train = enough_healthy(manifest, "train", FEWEST)
    settings, drawing = config.augment, config.generate
    known = model.preprocessing.conditions
    requests = make_requests(train, known, settings, drawing.conditions)
    for conditions in {json.dumps(r.conditions): r.conditions for r in requests}.values():
        for remark in check(known, conditions):
            log.warning("%s: the model has to guess", remark)
    digest = str(model.facts.get("data_digest", ""))
    if digest != manifest.digest:
        log.warning("the model was trained on other scans or splits than these: it may have seen "
                    "scans that are to validate or test here")  # fmt: skip
    place = decathlon.place
    if settings.layout == "bids":
        place = partial(_place_bids, suffix=settings.suffix)
    fingerprint = _fingerprint(model, manifest, config, facts)
    workshop = Workshop(out, place, fingerprint, drawing.seed)
    job = _Job(model, manifest, train, config, workshop)
    made = job.run(of_shard(requests, settings.shard))
    counts = summary(made)
    if counts["kept"] < FEWEST_KEPT * counts["wanted"]:
        raise DataError(
            "E_FILTERED", f"{counts['wanted']} synthetic scans wanted",
            f"only {counts['kept']} passed ({_listed(counts['dropped'])})",
            "train the model for longer, or loosen what drops them under augment",
        )  # fmt: skip
    if counts["kept"] < counts["wanted"]:
        missing = counts["wanted"] - counts["kept"]
        log.warning("%d of %d synthetic scans are missing: none of %d candidates passed",
                    missing, counts["wanted"], settings.tries)  # fmt: skip
    result: dict[str, Any] = {"folder": str(out), **counts}
    if settings.shard:
        result["lines"] = [
            f"shard     {settings.shard}: {_told(counts)}",
            "try       the same command without augment.shard, once all are done in OUT/shards/",
        ]
        return result
    workshop.clear(made)
    synthetic = job.cases(made)
    if settings.layout == "bids":
        placed = bids.write_bids(
            out, manifest.cases, synthetic, model.preprocessing, settings.real == "copy",
            manifest.licence, settings.suffix,
        )  # fmt: skip
    else:
        placed = decathlon.write_decathlon(
            out, manifest.cases, synthetic, model.preprocessing, settings.real == "copy",
            manifest.licence,
        )  # fmt: skip
    Manifest(tuple(placed), (), manifest.licence).save(out / MIXED)
    _write_splits(out, placed, settings.layout)
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
        "filters": job.record(),
        "cases": [_told_of(workshop, one) for one in made],
    }
    write_atomic(out / "provenance.json", json.dumps(provenance, indent=1))
    shutil.rmtree(out / WORK / "cache", ignore_errors=True)
    name = "dataset_description.json" if settings.layout == "bids" else "dataset.json"
    result["real"] = splits
    result["lines"] = [
        f"mixed     {splits['train']} real and {counts['kept']} synthetic training scans, "
        f"{splits['calibration']} real to validate, {splits['test']} to test",
        f"dropped   {_told(counts)}",
        f"read      {out / name}; medgan train CONFIG --data {out / MIXED}",
    ]
    return result


@dataclass
class _Job:
    """What it takes to make the synthetic scans; filters are learned when first needed."""

    model: Model
    manifest: Manifest
    train: list[Case]
    config: Config
    workshop: Workshop
    filters: Filters | None = None

    def run(self, requests: Sequence[Request]) -> list[Made]:
        """Takes over what is there and makes the rest."""
        out, made = self.workshop.folder, []
        others = [replace(self.workshop, folder=path) for path in sorted(out.glob(f"{SHARDS}/*"))]
        found = [self.workshop.find(request) for request in requests]
        there = sum(one is not None for one in found)
        if there:
            log.info("%d of %d synthetic scans are there already", there, len(requests))
        with counting("synthetic scans") as tick:
            for request, one in zip(requests, found, strict=True):
                for other in others if one is None else ():
                    one = one or self.workshop.adopt(other, request)
                if one is None:
                    one = self.workshop.make(
                        request, self.model, self.learned(), self.config.generate,
                        self.config.augment.tries,
                    )  # fmt: skip
                made.append(one)
                tick(len(made), len(requests))
        return made

    def learned(self) -> Filters:
        """The filters, learned once; segmenters of an earlier run are taken over."""
        if self.filters is None:
            path = self.workshop.folder / WORK / "segmenters.safetensors"
            work, grid = self.workshop.folder / WORK, self.model.preprocessing
            held_out = self.manifest.split("calibration")
            self.filters = calibrate_filters(
                self.model,
                read_scans(self.train, grid, work),
                read_scans(held_out, grid, work) if len(held_out) > 1 else None,
                [case.subject for case in self.train],
                self.config.augment,
                self._first,
                self.config.generate.seed,
                self._kept_segmenters(path),
            )
            if self.filters.segmenters:
                data = {
                    f"{n}.{key}": value.cpu().contiguous()
                    for n, network in enumerate(self.filters.segmenters)
                    for key, value in network.state_dict().items()
                }
                stamp = {"fingerprint": self.workshop.fingerprint}
                write_atomic(path, save(data, stamp), private=True)
            write_atomic(work / "filters.json", json.dumps(self._record_of(self.filters)))
        return self.filters

    def record(self) -> dict[str, Any]:
        """Limits and how they came about: of this run, an earlier one or a shard."""
        out = self.workshop.folder
        places = [out, *sorted(out.glob(f"{SHARDS}/*"))]
        for path in () if self.filters else places:
            with suppress(OSError, ValueError, KeyError):
                stored = json.loads((path / WORK / "filters.json").read_text(encoding="utf-8"))
                if stored.pop("fingerprint") == self.workshop.fingerprint:
                    return stored
        record = self._record_of(self.learned())
        del record["fingerprint"]
        return record

    def cases(self, made: Sequence[Made]) -> list[Case]:
        """What was made, as cases of a manifest, healthy ones among them."""
        learned = [condition.name for condition in self.model.preprocessing.conditions]
        healthy = {
            column: values[0]
            for column, values in self.config.data.healthy.items()
            if values and column not in learned
        }
        cases = [
            self.workshop.case(one.number, one.covariates) for one in made if one.number is not None
        ]
        return [replace(case, covariates={**healthy, **case.covariates}) for case in cases]

    def _first(self) -> list[Any]:
        drawing = self.config.generate
        return self.model.generate(
            FIRST, drawing.seed, 0, drawing.smallest_component, drawing.conditions,
            drawing.truncation,
        )  # fmt: skip

    def _kept_segmenters(self, path: Path) -> list[nn.Module]:
        places = [path, *sorted(self.workshop.folder.glob(f"{SHARDS}/*/{WORK}/{path.name}"))]
        for place in places:
            with suppress(OSError, SafetensorError, RuntimeError, ValueError, KeyError):
                data = place.read_bytes()
                if _stamp(data) == self.workshop.fingerprint:
                    return self._rebuilt(load(data))
        return []

    def _rebuilt(self, tensors: dict[str, torch.Tensor]) -> list[nn.Module]:
        preprocessing, networks = self.model.preprocessing, []
        for number in range(2):
            with torch.random.fork_rng(devices=[]):
                network = fresh_segmenter(min(preprocessing.shape), len(preprocessing.labels))
            prefix = f"{number}."
            network.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
            network.to(self.model.device, memory_format=torch.channels_last_3d)  # pyright: ignore
            networks.append(network.eval())
        return networks

    def _record_of(self, filters: Filters) -> dict[str, Any]:
        return {
            "fingerprint": self.workshop.fingerprint,
            "limits": {
                name: [low, high if math.isfinite(high) else None]
                for name, (low, high) in filters.limits.items()
            },
            "learned_from": filters.facts,
        }


def digest_of(model: Model) -> str:
    """Hash of a model's weights and grid, wherever it was loaded from."""
    found = hashlib.sha256(model.preprocessing.model_dump_json().encode())
    found.update(repr(model.label_offset).encode())
    for name, network in sorted(model.networks.modules().items()):
        for key, value in sorted(network.state_dict().items()):
            found.update(f"{name}.{key}".encode())
            found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _fingerprint(model: Model, manifest: Manifest, config: Config, facts: dict[str, str]) -> str:
    """Hash of all that a synthetic scan and its filters depend on, beside its request."""
    settings = config.augment.model_dump(mode="json", include=_DEPENDED_ON)
    drawing = config.generate.model_dump(
        mode="json", include={"seed", "smallest_component", "truncation", "conditions"}
    )
    parts = [digest_of(model), manifest.digest, settings, drawing, facts.get("medgan", "")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stamp(data: bytes) -> str:
    """The fingerprint in the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]["fingerprint"]


def _place_bids(name: str, suffix: str) -> tuple[str, str]:
    return bids.place(bids.subject_of(name), suffix)


def _write_splits(out: Path, cases: Sequence[Case], layout: str) -> None:
    """Who trains and who tests, by the subject names of the data set, for `data.splits`."""
    name: Callable[[str], str] = bids.subject_of if layout == "bids" else str
    lists = {
        split: sorted({name(c.subject) for c in cases if c.split == split}) for split in SPLITS
    }
    write_atomic(out / "splits.json", json.dumps(lists, indent=1))


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
