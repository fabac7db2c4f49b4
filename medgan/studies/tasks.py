"""What a network is trained for in a utility study, and what is measured of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.config import Preprocessing, UtilityConfig
from medgan.core.errors import ConfigError, DataError
from medgan.data.conditions import Value, covariate_of
from medgan.data.manifest import Case
from medgan.data.prepared import read_scans
from medgan.evaluation.probes.augmentation import Augmentation, classical, unchanged
from medgan.evaluation.probes.classification import classify, train_classifier, verdicts
from medgan.evaluation.probes.segmentation import (
    dice_of_scans,
    hausdorff95,
    segment,
    train_segmenter,
)

FEWEST_TESTED = 4


class Examples(NamedTuple):
    """Scans to learn from or to be tested on.

    Attributes:
        images: (N, 1, X, Y, Z) in [-1, 1].
        targets: classes (N, X, Y, Z), or groups (N,).
    """

    images: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Examples":
        """The same on a device."""
        return Examples(self.images.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        name: of its row.
        real: whether it sees real scans.
        ratio: synthetic scans a real one; for a classification, whether there are any.
        first: whether the first half of the steps sees synthetic scans alone, the second half
            real ones alone.
        classical: whether scans are augmented classically.
        balanced: whether both groups, and real and synthetic scans of each, are drawn equally
            often.
    """

    name: str
    real: bool = True
    ratio: float = 0.0
    first: bool = False
    classical: bool = False
    balanced: bool = False


@dataclass(frozen=True)
class Figure:
    """What is measured of one training.

    Attributes:
        of: all test subjects' figures to one number.
        better: whether more of it is better.
    """

    of: Callable[[Float[np.ndarray, "N K"]], float]
    better: bool = True


@runtime_checkable
class Task(Protocol):
    """What a network is trained for."""

    figures: Mapping[str, Figure]

    def draw(self, size: int, seed: int) -> list[Case]:
        """Training cases: a larger set of the same seed holds the smaller ones."""
        ...

    def requests(self, cases: Sequence[Case], ratio: float, seed: int) -> list[dict[str, Value]]:
        """Conditions of the synthetic scans that go with real ones."""
        ...

    def real(self, cases: Sequence[Case], out: Path) -> Examples:
        """Real scans with what is to be learned of them."""
        ...

    def synthetic(
        self, images: Tensor, label_maps: Tensor | None, requests: Sequence[Mapping[str, Value]]
    ) -> Examples:
        """Synthetic scans likewise."""
        ...

    def train(self, parts: Sequence[Examples], arm: Arm, seed: int) -> nn.Module:
        """A network that has learned from real and from synthetic scans."""
        ...

    def found(self, network: nn.Module, images: Tensor) -> Tensor:
        """What a network makes of scans."""
        ...

    def judge(self, network: nn.Module, test: Examples) -> Float[np.ndarray, "N K"]:
        """The figures of every test subject."""
        ...


class Segmentation:
    """A U-Net learns label maps.

    Args:
        cases: of the training split; only those with label maps are drawn.
        preprocessing: the grid and the labels.
        settings: the utility section.

    Raises:
        DataError: E_LABEL when no training scan has a label map.
    """

    def __init__(
        self, cases: Sequence[Case], preprocessing: Preprocessing, settings: UtilityConfig
    ) -> None:
        self._cases = [case for case in cases if case.label]
        if not self._cases or not preprocessing.labels:
            raise DataError(
                "E_LABEL", "the training split", "no scan has a label map",
                "give label maps, or set utility.task=classification",
            )  # fmt: skip
        self._preprocessing, self._settings = preprocessing, settings
        count = self._count = len(preprocessing.labels)

        def mean(first: int, last: int) -> Figure:
            return Figure(lambda rows: float(np.nanmean(rows[:, first:last])), better=last <= count)

        by_label = {
            f"Dice {value}": mean(number, number + 1)
            for number, value in enumerate(preprocessing.labels)
        }
        self.figures: Mapping[str, Figure] = {
            "Dice": mean(0, count),
            **(by_label if count > 1 else {}),
            "HD95 (mm)": mean(count, 2 * count),
        }

    def draw(self, size: int, seed: int) -> list[Case]:
        """As `Task.draw`."""
        return _first(self._cases, size, seed, "labelled training scans")

    def requests(self, cases: Sequence[Case], ratio: float, seed: int) -> list[dict[str, Value]]:
        """As many as the ratio says, with nothing asked for."""
        return [{} for _ in range(round(ratio * len(cases)))]

    def real(self, cases: Sequence[Case], out: Path) -> Examples:
        """As `Task.real`."""
        labelled = [case for case in cases if case.label]
        if not labelled:
            raise DataError(
                "E_LABEL", "the test split", "no scan has a label map", "give label maps"
            )
        scans = read_scans(labelled, self._preprocessing, out)
        return Examples(scans.images, self._classes(scans.label_maps))

    def synthetic(
        self, images: Tensor, label_maps: Tensor | None, requests: Sequence[Mapping[str, Value]]
    ) -> Examples:
        """As `Task.synthetic`."""
        assert label_maps is not None, "a generator trained on label maps makes them"
        return Examples(images, self._classes(label_maps))

    def _classes(self, label_maps: Tensor) -> Tensor:
        classes = torch.zeros_like(label_maps, dtype=torch.long)
        for number, value in enumerate(self._preprocessing.labels, start=1):
            classes[label_maps == value] = number
        return classes

    def train(self, parts: Sequence[Examples], arm: Arm, seed: int) -> nn.Module:
        """As `Task.train`."""
        stages = parts[::-1] if arm.first else [_together(parts)]
        steps, network = self._settings.steps // len(stages), None
        for stage in stages:
            network = train_segmenter(
                *stage, self._count, steps, seed, augment=_augmentation(arm), network=network
            )
        assert network is not None, "there is a part to learn from"
        return network

    def found(self, network: nn.Module, images: Tensor) -> Tensor:
        """Classes (N, X, Y, Z)."""
        return segment(network, images)

    def judge(self, network: nn.Module, test: Examples) -> Float[np.ndarray, "N K"]:
        """As `Task.judge`."""
        found = self.found(network, test.images)
        dice = dice_of_scans(found, test.targets, self._count).cpu()
        distance = hausdorff95(found, test.targets, self._count, self._preprocessing.spacing)
        return torch.cat([dice, distance], dim=1).numpy()


class Classification:
    """A small network learns who belongs to a rare group.

    Args:
        cases: of the training split.
        preprocessing: the grid.
        settings: the utility section.

    Raises:
        ConfigError: E_VALUE, E_CONDITION.
        DataError: E_SPLIT with too few scans of a group.
    """

    figures: Mapping[str, Figure] = {
        "balanced accuracy": Figure(
            lambda rows: verdicts(rows[:, 0], rows[:, 1]).balanced_accuracy
        ),
        "AUROC": Figure(lambda rows: verdicts(rows[:, 0], rows[:, 1]).auroc),
        "minority recall": Figure(lambda rows: verdicts(rows[:, 0], rows[:, 1]).minority_recall),
    }

    def __init__(
        self, cases: Sequence[Case], preprocessing: Preprocessing, settings: UtilityConfig
    ) -> None:
        learned = [condition.name for condition in preprocessing.conditions]
        if settings.target not in learned:
            raise ConfigError(
                "E_CONDITION", "utility.target", f"{settings.target!r} is no condition",
                f"name one of data.conditions: {', '.join(learned) or 'none'}",
            )  # fmt: skip
        self._preprocessing, self._settings = preprocessing, settings
        self._groups = {0: list[Case](), 1: list[Case]()}
        for case in cases:
            group = self._group(case)
            if group is not None:
                self._groups[group].append(case)

    def _group(self, case: Case) -> int | None:
        """1 for the rare group, None for who cannot be placed."""
        return self._group_of(covariate_of(case, self._settings.target))

    def _group_of(self, value: Value) -> int | None:
        rare = self._settings.rare
        if value is None or str(value).strip().lower() in ("", "n/a", "nan"):
            return None
        if rare not in ("above", "below"):
            return int(str(value) == rare)
        try:
            above = float(value) > self._settings.cut
        except ValueError:
            return None
        return int(above == (rare == "above"))

    def draw(self, size: int, seed: int) -> list[Case]:
        """As `Task.draw`."""
        few = max(2, round(self._settings.share * size))
        many = _first(self._groups[0], size - few, seed, "training scans of the frequent group")
        return many + _first(self._groups[1], few, seed, "training scans of the rare group")

    def requests(self, cases: Sequence[Case], ratio: float, seed: int) -> list[dict[str, Value]]:
        """Rare scans until both groups are equally many, and as many frequent ones.

        Values are as the real scans of the group have. Were synthetic scans of the rare group
        alone, networks would learn to tell synthetic scans from real ones.
        """
        target, requests = self._settings.target, []
        random = np.random.default_rng([seed, 2])
        by_group = [[c for c in cases if self._group(c) == group] for group in (1, 0)]
        missing = len(by_group[1]) - len(by_group[0])
        for group in by_group:
            chosen = random.integers(0, len(group), missing)
            requests += [{target: covariate_of(group[n], target)} for n in chosen]
        return requests

    def real(self, cases: Sequence[Case], out: Path) -> Examples:
        """As `Task.requests`."""
        placed = [case for case in cases if self._group(case) is not None]
        groups = torch.tensor([self._group(case) for case in placed], device="cpu")
        if len(groups.unique()) < 2:
            raise DataError(
                "E_SPLIT", "utility.tested",
                f"the {len(placed)} scans to test on are not of both groups of utility.target",
                "check utility.rare and utility.cut",
            )  # fmt: skip
        return Examples(read_scans(placed, self._preprocessing, out).images, groups)

    def synthetic(
        self, images: Tensor, label_maps: Tensor | None, requests: Sequence[Mapping[str, Value]]
    ) -> Examples:
        """As `Task.real`."""
        groups = [self._group_of(request[self._settings.target]) for request in requests]
        return Examples(images, torch.tensor(groups, device="cpu"))

    def train(self, parts: Sequence[Examples], arm: Arm, seed: int) -> nn.Module:
        """As `Task.train`."""
        kinds = torch.cat([part.targets + 2 * n for n, part in enumerate(parts)])
        weights = (1 / torch.bincount(kinds.cpu(), minlength=4))[kinds.cpu()]
        return train_classifier(
            *_together(parts), self._settings.steps, seed,
            augment=_augmentation(arm), weights=weights if arm.balanced else None,
        )  # fmt: skip

    def found(self, network: nn.Module, images: Tensor) -> Tensor:
        """Probabilities (N,) of the rare group."""
        return classify(network, images)

    def judge(self, network: nn.Module, test: Examples) -> Float[np.ndarray, "N K"]:
        """As `Task.judge`."""
        found = self.found(network, test.images)
        return torch.stack([found.double(), test.targets.double()], dim=1).cpu().numpy()


TASKS: dict[str, type[Segmentation] | type[Classification]] = {
    "segmentation": Segmentation,
    "classification": Classification,
}


def _together(parts: Sequence[Examples]) -> Examples:
    return Examples(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _augmentation(arm: Arm) -> Augmentation:
    return classical if arm.classical else unchanged


def _first(cases: Sequence[Case], size: int, seed: int, what: str) -> list[Case]:
    """The first cases of an order that the seed draws, whatever the order of the files.

    Raises:
        DataError: E_SPLIT when there are fewer.
    """
    if size > len(cases):
        raise DataError(
            "E_SPLIT", f"{len(cases)} {what}", f"{size} are wanted", "lower utility.sizes"
        )
    ordered = sorted(cases, key=lambda case: case.sha256)
    chosen = np.random.default_rng(seed).permutation(len(ordered))[:size]
    return [ordered[number] for number in chosen]
