"""The scans that a model was trained on, where they are at hand."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medgan.core.progress import counting
from medgan.data.batches import PreparedVolumes
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import stored
from medgan.model.model import Model

log = logging.getLogger(__name__)
CACHE = "cache"
"""What a training leaves beside its manifest."""


class TrainingScans(NamedTuple):
    """Training scans on a model's grid.

    Attributes:
        volumes: (M, C, X, Y, Z) in [-1, 1].
        cases: M of them.
        remark: a doubt whether it was these; empty without one.
    """

    volumes: Float[Tensor, "M C X Y Z"]
    cases: tuple[Case, ...]
    remark: str

    @property
    def subject(self) -> Int[Tensor, " M"]:
        """Number of the subject of each."""
        known = {name: n for n, name in enumerate(dict.fromkeys(c.subject for c in self.cases))}
        return torch.tensor([known[case.subject] for case in self.cases], device="cpu")


def training_scans(model: Model, manifest: Path) -> TrainingScans | None:
    """The training split of a manifest, from the cache that lies beside it; None without any.

    Scans that are not in the cache are prepared again, where their files are still in place.

    Args:
        model: whose grid they are brought to.
        manifest: of the training.

    Raises:
        DataError: E_MANIFEST where it is none.
    """
    if not manifest.is_file():
        return None
    known = Manifest.load(manifest)
    cases = known.split("train")
    prepared = PreparedVolumes(cases, model.preprocessing, manifest.parent / CACHE)
    with counting("reading training scans") as tick:
        refusals = prepared.warm(tick)
    if not len(prepared):
        return None
    volumes = torch.stack([prepared[n][0] for n in range(len(prepared))])
    remarks = []
    if model.facts.get("training_digest", known.training_digest) != known.training_digest:
        remarks.append("the model was trained on other scans than those that the manifest lists")
    if refusals:
        remarks.append(f"{len(refusals)} of {len(cases)} training scans are no longer at hand")
    for remark in remarks:
        log.warning("%s", remark)
    return TrainingScans(stored(volumes), tuple(prepared.cases), "; ".join(remarks))
