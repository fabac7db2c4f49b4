"""Do synthetic scans help? Networks learn with and without them and are tested on real scans."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.config import Config, Preprocessing, UtilityConfig
from medgan.data.conditions import Value
from medgan.data.labels import harden, largest_components
from medgan.data.manifest import Case, Manifest
from medgan.data.plan import plan
from medgan.data.scans import stored
from medgan.errors import ConfigError, DataError
from medgan.evaluation.classical import classical, unchanged
from medgan.evaluation.paired import paired_difference
from medgan.files import write_atomic
from medgan.model import Model
from medgan.progress import counting
from medgan.report.utility import write_utility_page
from medgan.studies.tasks import FEWEST_TESTED, TASKS, Examples, Task
from medgan.training.session import choose_device, train_model

log = logging.getLogger(__name__)
REPORT, PAGE = "utility.json", "utility.html"
BASELINE = "classical"
Row = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        name: of its row.
        real: whether it sees real scans.
        ratio: synthetic scans a real one; for a classification, whether the rare group is
            filled up by them.
        classical: whether scans are augmented classically.
        balanced: whether both groups are drawn equally often.
    """

    name: str
    real: bool = True
    ratio: float = 0.0
    classical: bool = False
    balanced: bool = False


def arms_of(settings: UtilityConfig) -> list[Arm]:
    """The ways of training that are compared."""
    ratios = settings.ratios if settings.task == "segmentation" else (1.0,)
    of: dict[str, list[Arm]] = {
        "real": [Arm("real")],
        "classical": [Arm("classical", classical=True)],
        "oversampling": [Arm("oversampling", classical=True, balanced=True)],
        "synthetic": [Arm("synthetic", real=False, ratio=max(ratios))],
        "mixed": [Arm(f"mixed {ratio:g}", ratio=ratio) for ratio in ratios],
        "all": [Arm(f"all {ratio:g}", ratio=ratio, classical=True) for ratio in ratios],
    }
    left_out = {"segmentation": "oversampling", "classification": "synthetic"}[settings.task]
    return [arm for name in settings.arms if name != left_out for arm in of[name]]


def utility(manifest: Manifest, out: Path, config: Config, facts: dict[str, str]) -> dict[str, Any]:
    """Trains every arm on every size and seed and writes utility.json and utility.html.

    The generator of a size and seed learns from the same real scans as the networks it helps,
    and from nothing else (with `utility.unlabelled`: also from the images, without the label
    maps, of the other training scans). What is done is kept:
    the same command goes on.

    Args:
        manifest: with splits; healthy or not, all scans of training and test are used.
        out: receives cache, generators, cells, utility.json and utility.html.
        config: data, model and train sections for the generators, utility for the study.
        facts: versions, for the cards of the generators.

    Returns:
        rows, the table as Markdown, and the protocol.

    Raises:
        ConfigError, DataError: what does not fit the task or the sizes.
        Interrupted, TrainingDiverged, EnvironmentFailure: from the training of a generator.
    """
    settings = config.utility
    cases = manifest.split("train")
    preprocessing = plan(config.data, cases)
    task: Task = TASKS[settings.task](cases, preprocessing, settings)
    arms = arms_of(settings)
    if BASELINE not in {arm.name for arm in arms}:
        raise ConfigError(
            "E_VALUE", "utility.arms", f"{BASELINE} is missing: there is nothing to be better than",
            f"name {BASELINE} too",
        )  # fmt: skip
    test = task.real(_tested(manifest, settings.tested), out)
    plots = [(size, seed) for size in settings.sizes for seed in range(settings.seeds)]
    drawn = {plot: task.draw(*plot) for plot in plots}  # too few scans are found out first
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    with counting("trainings") as tick:
        for number, (size, seed) in enumerate(plots):
            plot = _Plot(size, seed, drawn[size, seed], manifest, preprocessing, out, config, facts)
            for place, arm in enumerate(arms):
                figures = plot.cell(arm, task, test)
                found.setdefault((size, arm.name), []).append(figures)
                tick(number * len(arms) + place + 1, len(plots) * len(arms))
    rows = [_row(task, size, arm, found) for size in settings.sizes for arm in arms]
    result = {
        "protocol": {
            **settings.model_dump(mode="json"),
            "test_scans": len(test.images),
            "generator_minutes": config.train.minutes,
            "data_digest": manifest.digest,
            **facts,
        },
        "rows": rows,
        "table": table(rows),
    }
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    write_utility_page(out / PAGE, result, BASELINE)
    return result


def _tested(manifest: Manifest, splits: Sequence[str]) -> list[Case]:
    """Everyone in these splits, ill or not.

    Raises:
        DataError: E_SPLIT.
    """
    cases = [case for split in splits for case in manifest.split(split)]
    if len(cases) < FEWEST_TESTED:
        raise DataError(
            "E_SPLIT", f"{len(cases)} scans to test on", f"{FEWEST_TESTED} are needed",
            "add scans, or set data.fractions or utility.tested",
        )  # fmt: skip
    return cases


class _Plot:
    """One draw of real scans, the generator that learned from them, and all that is tried."""

    def __init__(
        self,
        size: int,
        seed: int,
        cases: list[Case],
        manifest: Manifest,
        preprocessing: Preprocessing,
        out: Path,
        config: Config,
        facts: dict[str, str],
    ) -> None:
        self.name, self.seed, self.cases = f"{size:03d}-{seed}", seed, cases
        self.manifest, self.preprocessing, self.facts = manifest, preprocessing, facts
        self.out = out
        self.config = config.model_copy(
            update={
                "train": config.train.model_copy(update={"seed": seed}),
                # One grid for all, whatever the scans of a draw would suggest.
                "data": config.data.model_copy(
                    update=preprocessing.model_dump(include={"spacing", "shape", "labels"})
                ),
            }
        )
        self._drawn: dict[int, tuple[Tensor, Tensor | None]] = {}

    def cell(self, arm: Arm, task: Task, test: Examples) -> np.ndarray:
        """Figures of the test subjects, (N, K): from the disk, or by training."""
        path = self.out / "cells" / f"{self.name}-{arm.name.replace(' ', '-')}.json"
        key = self._key(arm)
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["key"] == key:
                return np.array(kept["figures"], dtype=float)
        log.info("%s real scans, draw %d: %s", len(self.cases), self.seed, arm.name)
        device = choose_device(self.config.train.device)
        examples = self._examples(arm, task)
        augment = classical if arm.classical else unchanged
        figures = task.judge(
            Examples(*(part.to(device) for part in examples)),
            Examples(*(part.to(device) for part in test)),
            self.seed, augment, arm.balanced,
        )  # fmt: skip
        write_atomic(path, json.dumps({"key": key, "figures": figures.tolist()}))
        return figures

    def _key(self, arm: Arm) -> str:
        """Of all that a cell's figures depend on."""
        told = self.config.model_dump(mode="json", include={"data", "model", "train", "utility"})
        for name in ("sizes", "seeds", "arms", "ratios"):  # further ones leave this cell as it is
            del told["utility"][name]
        del told["data"]["source"], told["data"]["splits"], told["train"]["resume"]
        if not arm.ratio:
            del told["model"], told["train"], told["utility"]["unlabelled"]
        text = json.dumps([told, asdict(arm), self.seed, len(self.cases), self.manifest.digest])
        return hashlib.sha256(text.encode()).hexdigest()

    def _examples(self, arm: Arm, task: Task) -> Examples:
        parts = [task.real(self.cases, self.out)] if arm.real else []
        if arm.ratio:
            requests = task.requests(self.cases, arm.ratio, self.seed)
            if requests:
                parts.append(task.synthetic(*self._synthetic(requests), requests))
        return Examples(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _synthetic(self, requests: Sequence[Mapping[str, Value]]) -> tuple[Tensor, Tensor | None]:
        """What the generator makes of requests; kept, because several arms ask for the same."""
        count = len(requests)
        if count not in self._drawn:
            self._drawn[count] = _generated(self._generator(), requests, self.seed)
        return self._drawn[count]

    def _generator(self) -> Model:
        """A generator that learned from this draw alone."""
        folder = self.out / "generators" / self.name
        train_model(self.config, self._seen(), folder, folder / "model", self.facts, lambda: None)
        return Model.load(folder / "model", choose_device(self.config.train.device).type)

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
        channels = next(model.iter_channels(1, seed, number, conditions))
        images.append(channels[:1])
        if labels:
            hard = harden(channels[1:], labels, model.label_offset)
            maps.append(torch.from_numpy(largest_components(hard.numpy(), labels)))
    return stored(torch.stack(images)), torch.stack(maps) if labels else None


def _row(task: Task, size: int, arm: Arm, found: Mapping[tuple[int, str], list[np.ndarray]]) -> Row:
    """Every figure of an arm, and how far it is from classical augmentation alone."""
    own, other = (np.stack(found[size, name]) for name in (arm.name, BASELINE))
    row: Row = {"size": size, "arm": arm.name, "synthetic": arm.ratio > 0, "figures": {}}
    for name, figure in task.figures.items():
        values = [figure.of(part) for part in own]
        row["figures"][name] = {
            "mean": round(float(np.mean(values)), 4),
            "seeds": [round(value, 4) for value in values],
            "better": "higher" if figure.better else "lower",
        }
        if arm.name != BASELINE:
            difference = paired_difference(other, own, figure.of, figure.each)
            row["figures"][name]["difference"] = {
                key: round(value, 4) for key, value in difference._asdict().items()
            }
            row["figures"][name]["differences"] = [
                round(a - figure.of(b), 4) for a, b in zip(values, other, strict=True)
            ]
    return row


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table: means, and differences from classical augmentation alone."""
    names = list(rows[0]["figures"])
    headline = names[0]
    head = ["real scans", "trained on", *names, f"{headline}: more than {BASELINE} (95%)", "p"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        figures = row["figures"]
        cells = [str(row["size"]), row["arm"], *(f"{figures[n]['mean']:.3f}" for n in names)]
        gap = figures[headline].get("difference")
        cells += (
            [f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})",
             f"{gap['p_value']:.3f}"] if gap else ["", ""]
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
