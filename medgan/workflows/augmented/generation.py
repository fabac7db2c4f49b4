"""The generated cases of a data set: from earlier runs and shards, or generated now."""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from medgan.core.config import Config
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json
from medgan.core.progress import counting
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import read_scans
from medgan.evaluation.probes.segmentation import fresh_segmenter
from medgan.model.digest import digest_of
from medgan.model.model import Model
from medgan.model.outputs import Synthetic
from medgan.workflows.augmented.cases import CaseFolder, GeneratedCase
from medgan.workflows.augmented.filter_limits import FIRST, calibrate_filters
from medgan.workflows.augmented.filters import Filters
from medgan.workflows.augmented.requests import Request

log = logging.getLogger(__name__)
WORK, SHARDS = "work", "shards"


@dataclass
class CaseGeneration:
    """Generates the cases of a data set; filters are calibrated when first needed.

    Attributes:
        model: the generator.
        manifest: of the real scans.
        train: its training cases.
        config: sections augment, generate and data.
        store: receives the cases.
        filters: None until the first candidate.
    """

    model: Model
    manifest: Manifest
    train: list[Case]
    config: Config
    store: CaseFolder
    filters: Filters | None = None

    def run(self, requests: Sequence[Request]) -> list[GeneratedCase]:
        """Uses existing cases and generates the rest."""
        out, cases = self.store.folder, []
        others = [replace(self.store, folder=path) for path in sorted(out.glob(f"{SHARDS}/*"))]
        found = [self.store.find(request) for request in requests]
        existing = sum(one is not None for one in found)
        if existing:
            log.info("%d of %d synthetic scans exist already", existing, len(requests))
        with counting("synthetic scans") as tick:
            for request, one in zip(requests, found, strict=True):
                for other in others if one is None else ():
                    one = one or self.store.copy_from(other, request)
                if one is None:
                    one = self.store.generate(
                        request, self.model, self.calibrated_filters(), self.config.generate
                    )  # fmt: skip
                cases.append(one)
                tick(len(cases), len(requests))
        return cases

    def calibrated_filters(self) -> Filters:
        """The filters, calibrated once; segmenters of an earlier run are used again."""
        if self.filters is None:
            path = self.store.folder / WORK / "segmenters.safetensors"
            work, grid = self.store.folder / WORK, self.model.preprocessing
            held_out = [c for s in ("validation", "calibration") for c in self.manifest.split(s)]
            self.filters = calibrate_filters(
                self.model,
                read_scans(self.train, grid, work),
                read_scans(held_out, grid, work) if len(held_out) > 1 else None,
                [case.subject for case in self.train],
                self.config.augment.filters,
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
                stamp = {"fingerprint": self.store.fingerprint}
                write_atomic(path, save(data, stamp), private=True)
            write_atomic(work / "filters.json", json.dumps(self._record_of(self.filters)))
        return self.filters

    def record(self, generated: Sequence[GeneratedCase]) -> dict[str, Any]:
        """Limits and their facts: of this run, an earlier one or a shard."""
        if not generated:
            return {}
        out = self.store.folder
        folders = [out, *sorted(out.glob(f"{SHARDS}/*"))]
        for path in () if self.filters else folders:
            with suppress(OSError, ValueError, KeyError):
                stored = read_json(path / WORK / "filters.json")
                if stored.pop("fingerprint") == self.store.fingerprint:
                    return stored
        record = self._record_of(self.calibrated_filters())
        del record["fingerprint"]
        return record

    def cases(self, generated: Sequence[GeneratedCase]) -> list[Case]:
        """Generated cases as cases of a manifest, marked as healthy."""
        learned = [condition.name for condition in self.model.preprocessing.conditions]
        healthy = {
            column: values[0]
            for column, values in self.config.data.healthy.items()
            if values and column not in learned
        }
        cases = [
            self.store.case(one.number, one.covariates)
            for one in generated
            if one.number is not None
        ]
        return [replace(case, covariates={**healthy, **case.covariates}) for case in cases]

    def _first(self) -> list[Synthetic]:
        generation = self.config.generate
        return self.model.generate(
            FIRST, generation.seed, conditions=generation.conditions,
            truncation=generation.truncation,
        )  # fmt: skip

    def _kept_segmenters(self, path: Path) -> list[nn.Module]:
        paths = [path, *sorted(self.store.folder.glob(f"{SHARDS}/*/{WORK}/{path.name}"))]
        for stored_path in paths:
            with suppress(OSError, SafetensorError, RuntimeError, ValueError, KeyError):
                data = stored_path.read_bytes()
                if _stamp(data) == self.store.fingerprint:
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
            "fingerprint": self.store.fingerprint,
            "limits": {
                name: [low, high if math.isfinite(high) else None]
                for name, (low, high) in filters.limits.items()
            },
            "facts": filters.facts,
        }


def fingerprint_of(model: Model, manifest: Manifest, config: Config, facts: dict[str, str]) -> str:
    """Hash of everything that a generated case and its filters depend on, except its request."""
    generation = config.generate.model_dump(
        mode="json", include={"seed", "truncation", "conditions"}
    )
    filters = sorted(config.augment.filters)
    parts = [digest_of(model), manifest.digest, filters, generation, facts]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stamp(data: bytes) -> str:
    """The fingerprint in the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]["fingerprint"]
