"""A random subset of the training scans, its generator, and the networks trained on both."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medgan.core.config import Config, Preprocessing
from medgan.core.errors import DataError
from medgan.data.conditions import Value
from medgan.data.labels import decode_labels, largest_components
from medgan.data.lesion_bank import SIZES
from medgan.data.lesion_drawing import LesionDrawing
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import read_scans, stored
from medgan.model.model import Model
from medgan.networks.channels import split_channels
from medgan.networks.device import choose_device
from medgan.studies.utility.classification import Classification
from medgan.studies.utility.lesion_segmentation import is_healthy
from medgan.studies.utility.lesions import KEPT, DrawnLesions, best, refining
from medgan.studies.utility.segmentation import Segmentation
from medgan.studies.utility.task import Arm, Examples, Task, join
from medgan.training.fit import train_model
from medgan.workflows.augmented import decathlon
from medgan.workflows.augmented.cases import CaseFolder
from medgan.workflows.synthetic_scan import save_synthetic

_UNREFINED = ("paste", "library")
"""Ways of drawing lesions without a model."""


class Subset:
    """Randomly chosen training scans, a generator trained on them alone, and networks.

    Args:
        size: number of scans.
        seed: of the choice, the generator, its latents and the networks.
        task: what networks are trained for; it chooses the scans.
        manifest: of all scans.
        preprocessing: one grid for all subsets.
        out: of the study.
        config: data, model and train sections, for the generator.
        facts: versions, for its card.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        task: Task,
        manifest: Manifest,
        preprocessing: Preprocessing,
        out: Path,
        config: Config,
        facts: dict[str, str],
    ) -> None:
        self.name, self.seed, self.task = f"{size:03d}-{seed}", seed, task
        self.cases = task.sample(size, seed)
        self.manifest, self.preprocessing, self.facts = manifest, preprocessing, facts
        self.out, self.device = out, choose_device(config.train.device)
        self.config = config.model_copy(
            update={
                "train": config.train.model_copy(update={"seed": seed}),
                # One grid for all subsets.
                "data": config.data.model_copy(
                    update=preprocessing.model_dump(include={"spacing", "shape", "labels"})
                ),
            }
        )
        self._generated: dict[int, Examples] = {}
        self._lesions: dict[tuple[str, int], Examples] = {}

    def key(self, arm: Arm) -> str:
        """Hash of everything that the results of an arm depend on."""
        values = self.config.model_dump(mode="json", include={"data", "model", "train", "utility"})
        for name in ("sizes", "seeds", "arms", "ratios"):  # others leave this arm unchanged
            del values["utility"][name]
        del values["data"]["source"], values["data"]["splits"]
        if not arm.ratio or arm.drawn in _UNREFINED:
            del values["model"], values["train"]
        if not arm.ratio:
            del values["utility"]["unlabelled"], values["utility"]["relabel"]
        text = json.dumps([values, asdict(arm), self.seed, len(self.cases), self.manifest.digest])
        return hashlib.sha256(text.encode()).hexdigest()

    def train(self, arm: Arm) -> nn.Module:
        """Trains the network of an arm."""
        requests = self._requests(arm)
        parts = [self._real] if arm.real else []
        if arm.drawn:
            parts.append(self._drawn(arm.drawn, len(requests)))
        elif requests:
            parts.append(self._synthetic(requests))
        if arm.healthy:
            parts.append(self._healthy)
        return self.task.train(parts, arm, self.seed)

    def folder(self, arm: Arm, tested: Sequence[Case], folder: Path) -> None:
        """Writes the training and test scans of a command as a Decathlon data set.

        Args:
            arm: real scans, synthetic ones or both.
            tested: real cases with label maps, new to every network.
            folder: receives `dataset.json` and the synthetic scans; real ones stay where they are.
        """
        synthetic = []
        store = CaseFolder(folder, decathlon.paths_of, "", self.seed)
        for number, conditions in enumerate(self._requests(arm)):
            (scan,) = self.model.iter_generate(1, self.seed, number, conditions=conditions)
            save_synthetic(scan, *store.files(number))
            synthetic.append(store.case(number, scan.covariates))
        real = [*(self.cases if arm.real else ()), *(replace(c, split="test") for c in tested)]
        decathlon.write_decathlon(
            folder, real, synthetic, self.preprocessing, False, self.manifest.licence
        )

    def _requests(self, arm: Arm) -> list[dict[str, Value]]:
        return self.task.requests(self.cases, arm.ratio, self.seed) if arm.ratio else []

    @cached_property
    def _real(self) -> Examples:
        return self.task.real(self.cases, self.out).to(self.device)

    def _synthetic(self, requests: Sequence[Mapping[str, Value]]) -> Examples:
        """Synthetic scans; kept, because several arms use the same."""
        count = len(requests)
        if count not in self._generated:
            made = self.task.synthetic(*_generated(self.model, requests, self.seed), requests)
            made = made.to(self.device)
            if self.config.utility.relabel:
                made = made._replace(targets=self.task.predict(self._teacher, made.images))
            self._generated[count] = made
        return self._generated[count]

    def _drawn(self, how: str, count: int) -> Examples:
        """Other scans with lesions of the subset; kept likewise."""
        if (how, count) not in self._lesions:
            made = (
                self._drawn_of_groups(self.task, how, count)
                if isinstance(self.task, Classification)
                else self._drawn_like(self._masked, how, count, SIZES)
            )
            self._lesions[how, count] = made.to(self.device)
        return self._lesions[how, count]

    def _drawn_of_groups(self, task: Classification, how: str, count: int) -> Examples:
        """Lesions of both groups, equally many and in the same kind of scans.

        They keep their size, because size may tell the groups apart.
        """
        images, masks = self._masked
        groups = task.groups([case for case in self.cases if case.label]).to(self.device)
        parts = []
        for group in (0, 1):
            real = Examples(images[groups == group], masks[groups == group])
            drawn = self._drawn_like(real, how, count // 2, (1.0, 1.0)).images
            parts.append(Examples(drawn, groups.new_full((len(drawn),), group).cpu()))
        return join(parts)

    def _drawn_like(
        self, real: Examples, how: str, count: int, sizes: tuple[float, float]
    ) -> Examples:
        """Other scans with lesions of some labelled ones, and their masks."""
        images, masks = self._receiving
        model = None if how in _UNREFINED else self.refiner
        other = LesionDrawing.shipped() if how == "library" else None
        made = DrawnLesions(real, images, masks, self.preprocessing, model, sizes, other)
        if how != "filtered":
            return made.draw(count, self.seed)
        drawn = made.draw(round(count / KEPT), self.seed)
        return best(drawn, images, self._segmenter, KEPT, self.seed)

    @cached_property
    def _receiving(self) -> Examples:
        """Scans that lesions are drawn into, and masks of their own: healthy ones if there are any.

        Otherwise the labelled scans or, with `utility.unlabelled`, the other training scans.
        """
        if any(is_healthy(case) for case in self._others):
            return self._healthy
        if not self.config.utility.unlabelled:
            return self._masked
        others = read_scans(self._others, self.preprocessing, self.out)
        images = others.images.to(self.device)
        return Examples(images, self._segmentation.predict(self._segmenter, images))

    @cached_property
    def _healthy(self) -> Examples:
        """The other training scans whose label maps are empty.

        Raises:
            DataError: E_LABEL where there are none.
        """
        healthy = [case for case in self._others if is_healthy(case)]
        if not healthy:
            raise DataError(
                "E_LABEL", "the training split", "no scan has an empty label map",
                "add healthy scans with empty label maps, or leave out the arm healthy",
            )  # fmt: skip
        return self._segmentation.real(healthy, self.out).to(self.device)

    @cached_property
    def _segmentation(self) -> Segmentation:
        """The segmentation of lesions, as a task."""
        return Segmentation(self.cases, self.preprocessing, self.config.utility)

    @cached_property
    def _masked(self) -> Examples:
        """The real scans with masks of their lesions."""
        return self._segmentation.real(self.cases, self.out).to(self.device)

    @cached_property
    def _segmenter(self) -> nn.Module:
        """A network that segments lesions in other scans: that of the arm `strong` of lesions."""
        strong = Arm("strong", classical=True, strong=True)
        return self._segmentation.train([self._masked], strong, self.seed)

    @property
    def _others(self) -> list[Case]:
        own = {case.subject for case in self.cases}
        return [case for case in self.manifest.split("train") if case.subject not in own]

    @cached_property
    def _teacher(self) -> nn.Module:
        """The network of the arm `classical`, which labels synthetic scans."""
        return self.train(Arm("classical", classical=True))

    @cached_property
    def model(self) -> Model:
        """A generator trained on this subset alone; trained, or its training resumed, on demand."""
        return self._trained(self.config, self._generator_scans(), "generators")

    @cached_property
    def refiner(self) -> Model:
        """A model that refines drawn lesions, likewise."""
        return self._trained(refining(self.config), self._own_scans(), "refiners")

    def _trained(self, config: Config, scans: Manifest, kind: str) -> Model:
        folder = self.out / kind / self.name
        train_model(config, scans, folder, folder / "model", self.facts, lambda: None)
        return Model.load(folder / "model", self.device.type)

    def _own_scans(self, *further: Case) -> Manifest:
        """The scans of the subset, which also serve as validation scans: there are no others."""
        validation = [replace(case, split="validation") for case in self.cases]
        return replace(self.manifest, cases=(*self.cases, *further, *validation))

    def _generator_scans(self) -> Manifest:
        """Those, and with `utility.unlabelled` the images of the other training scans."""
        if not self.config.utility.unlabelled:
            return self._own_scans()
        blank: dict[str, Any] = {"label": None, "label_sha256": None, "labels": (), "label_mm3": ()}
        return self._own_scans(*(replace(case, **blank) for case in self._others))


def _generated(
    model: Model, requests: Sequence[Mapping[str, Value]], seed: int
) -> tuple[Tensor, Tensor | None]:
    """Images (N, C, X, Y, Z) and label maps (N, X, Y, Z) under conditions."""
    labels = model.preprocessing.labels
    images, maps = [], []
    for number, conditions in enumerate(requests):
        channels = model.channels(model.draw(seed, number, conditions))
        image, soft_labels = split_channels(channels, len(model.preprocessing.channels))
        images.append(image)
        if labels:
            hard = decode_labels(soft_labels, labels, model.label_offset)
            maps.append(torch.from_numpy(largest_components(hard.numpy(), labels)))
    return stored(torch.stack(images)), torch.stack(maps) if labels else None
