"""One draw of real scans, the ways of training on it, and the generator that learned from it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from medgan.core.config import Config, Preprocessing, UtilityConfig
from medgan.data.conditions import Value
from medgan.data.labels import decode_labels, largest_components
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import stored
from medgan.model.model import Model
from medgan.studies.tasks import Arm, Examples, Task
from medgan.training.fit import choose_device, train_model
from medgan.workflows.augmented import decathlon
from medgan.workflows.augmented.cases import Workshop
from medgan.workflows.generate import save_synthetic


def arms_of(settings: UtilityConfig) -> list[Arm]:
    """The ways of training that are compared."""
    balanced = settings.task == "classification"
    ratios = (1.0,) if balanced else settings.ratios
    of: dict[str, list[Arm]] = {
        "real": [Arm("real")],
        "classical": [Arm("classical", classical=True)],
        "oversampling": [Arm("oversampling", classical=True, balanced=True)],
        "synthetic": [Arm("synthetic", real=False, ratio=max(ratios))],
        "mixed": [Arm(f"mixed {ratio:g}", ratio=ratio, balanced=balanced) for ratio in ratios],
        "all": [
            Arm(f"all {ratio:g}", ratio=ratio, classical=True, balanced=balanced)
            for ratio in ratios
        ],
        "first": [
            Arm(f"first {ratio:g}", ratio=ratio, classical=True, first=True) for ratio in ratios
        ],
    }
    left_out = {"oversampling"}
    if balanced:
        left_out = {"synthetic", "first"}
    if settings.command:  # augments as it likes
        left_out = {"classical", "oversampling", "all", "first"}
    return [arm for name in settings.arms if name not in left_out for arm in of[name]]


class Draw:
    """Real scans drawn by a seed, and all that is made of them.

    Args:
        size: how many.
        seed: of the draw, the generator, its latents and the networks.
        task: what networks are trained for; it draws the scans.
        manifest: they come from.
        preprocessing: one grid for all draws.
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
        self.cases = task.draw(size, seed)
        self.manifest, self.preprocessing, self.facts = manifest, preprocessing, facts
        self.out, self.device = out, choose_device(config.train.device)
        self.config = config.model_copy(
            update={
                "train": config.train.model_copy(update={"seed": seed}),
                # One grid for all, whatever the scans of a draw would suggest.
                "data": config.data.model_copy(
                    update=preprocessing.model_dump(include={"spacing", "shape", "labels"})
                ),
            }
        )
        self._drawn: dict[int, Examples] = {}

    def key(self, arm: Arm) -> str:
        """Of all that the figures of an arm depend on."""
        told = self.config.model_dump(mode="json", include={"data", "model", "train", "utility"})
        for name in ("sizes", "seeds", "arms", "ratios"):  # further ones leave these as they are
            del told["utility"][name]
        del told["data"]["source"], told["data"]["splits"], told["train"]["resume"]
        if not arm.ratio:
            del told["model"], told["train"]
            del told["utility"]["unlabelled"], told["utility"]["relabel"]
        text = json.dumps([told, asdict(arm), self.seed, len(self.cases), self.manifest.digest])
        return hashlib.sha256(text.encode()).hexdigest()

    def train(self, arm: Arm) -> nn.Module:
        """The network of an arm."""
        requests = self._requests(arm)
        parts = [self._real] if arm.real else []
        if requests:
            parts.append(self._synthetic(requests))
        return self.task.train(parts, arm, self.seed)

    def folder(self, arm: Arm, tested: Sequence[Case], folder: Path) -> None:
        """Writes what a command learns from, and is tested on, as a Decathlon data set.

        Args:
            arm: real scans, synthetic ones or both.
            tested: cases with label maps; real scans that nothing has seen.
            folder: receives `dataset.json` and the synthetic scans; real ones stay where they are.
        """
        synthetic = []
        workshop = Workshop(folder, decathlon.place, "", self.seed)
        for number, conditions in enumerate(self._requests(arm)):
            (scan,) = self.model.iter_generate(1, self.seed, number, conditions=conditions)
            save_synthetic(scan, *workshop.files(number))
            synthetic.append(workshop.case(number, scan.covariates))
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
        """What the generator makes of requests; kept, because several arms ask for the same."""
        count = len(requests)
        if count not in self._drawn:
            made = self.task.synthetic(*_generated(self.model, requests, self.seed), requests)
            made = made.to(self.device)
            if self.config.utility.relabel:
                made = made._replace(targets=self.task.found(self._teacher, made.images))
            self._drawn[count] = made
        return self._drawn[count]

    @cached_property
    def _teacher(self) -> nn.Module:
        """The network of the arm `classical`, which labels synthetic scans."""
        return self.train(Arm("classical", classical=True))

    @cached_property
    def model(self) -> Model:
        """A generator that learned from this draw alone; trained, or trained further, on demand."""
        folder = self.out / "generators" / self.name
        train_model(self.config, self._seen(), folder, folder / "model", self.facts, lambda: None)
        return Model.load(folder / "model", self.device.type)

    def _seen(self) -> Manifest:
        """The scans of the draw, which also are what the training looks at itself by."""
        watched = [replace(case, split="calibration") for case in self.cases]
        further: Iterator[Case] = iter(())
        if self.config.utility.unlabelled:
            own = {case.subject for case in self.cases}
            others = (c for c in self.manifest.split("train") if c.subject not in own)
            further = (
                replace(c, label=None, label_sha256=None, labels=(), label_mm3=()) for c in others
            )
        return replace(self.manifest, cases=(*self.cases, *further, *watched))


def _generated(
    model: Model, requests: Sequence[Mapping[str, Value]], seed: int
) -> tuple[Tensor, Tensor | None]:
    """Images (N, 1, X, Y, Z) and label maps (N, X, Y, Z) of what is asked for."""
    labels = model.preprocessing.labels
    images, maps = [], []
    for number, conditions in enumerate(requests):
        channels = model.channels(model.draw(seed, number, conditions))
        images.append(channels[:1])
        if labels:
            hard = decode_labels(channels[1:], labels, model.label_offset)
            maps.append(torch.from_numpy(largest_components(hard.numpy(), labels)))
    return stored(torch.stack(images)), torch.stack(maps) if labels else None
