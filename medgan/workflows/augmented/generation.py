"""The synthetic scans of a set: taken over from earlier runs and shards, the missing ones made."""

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
from medgan.core.progress import counting
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import read_scans
from medgan.evaluation.probes.segmentation import fresh_segmenter
from medgan.model.model import Model
from medgan.model.outputs import Synthetic
from medgan.workflows.augmented.cases import Made, Workshop
from medgan.workflows.augmented.filters import FIRST, Filters, calibrate_filters
from medgan.workflows.augmented.requests import Request

log = logging.getLogger(__name__)
WORK, SHARDS = "work", "shards"
_DEPENDED_ON = {
    *("tries", "appearance", "realism", "consistency", "segmenter_steps", "volumes", "privacy"),
}


@dataclass
class Production:
    """What it takes to make the synthetic scans; filters are learned when first needed.

    Attributes:
        model: what generates.
        manifest: of the real scans.
        train: its training cases.
        config: sections augment, generate and data.
        workshop: what receives the scans.
        filters: None until the first scan is made.
    """

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
            held_out = [c for s in ("validation", "calibration") for c in self.manifest.split(s)]
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

    def record(self, made: Sequence[Made]) -> dict[str, Any]:
        """Limits and how they came about: of this run, an earlier one or a shard."""
        if not made:
            return {}
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

    def _first(self) -> list[Synthetic]:
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


def fingerprint_of(model: Model, manifest: Manifest, config: Config, facts: dict[str, str]) -> str:
    """Hash of all that a synthetic scan and its filters depend on, beside its request."""
    settings = config.augment.model_dump(mode="json", include=_DEPENDED_ON)
    drawing = config.generate.model_dump(
        mode="json", include={"seed", "smallest_component", "truncation", "conditions"}
    )
    parts = [digest_of(model), manifest.digest, settings, drawing, facts]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stamp(data: bytes) -> str:
    """The fingerprint in the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]["fingerprint"]
