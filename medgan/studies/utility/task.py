"""A task of a utility study: what a network is trained for, and what is measured of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.errors import DataError
from medgan.data.conditions import Value
from medgan.data.manifest import Case
from medgan.evaluation.probes.augmentation import Augmentation, classical, strong, unchanged


class Examples(NamedTuple):
    """Scans with targets, for training or test.

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
        real: whether real scans are used.
        ratio: synthetic scans for each real one; for a classification, scans of each group for
            each one that the rare group lacks.
        first: whether the first half of the steps uses synthetic scans alone, the second half real
            scans alone.
        classical: whether scans are augmented classically.
        strong: whether they are augmented strongly.
        drawn: how lesions are drawn into other scans: paste, refined, filtered or library; empty
            where synthetic scans are a generator's.
        curves: whether strong augmentation of contrast has random curves.
        appearance: whether images of random contrast are drawn in place of scans; with `strong`,
            real scans are used beside them.
        healthy: whether healthy scans are used beside the labelled ones.
        balanced: whether both groups, and real and synthetic scans of each, are sampled equally
            often.
    """

    name: str
    real: bool = True
    ratio: float = 0.0
    first: bool = False
    classical: bool = False
    strong: bool = False
    drawn: str = ""
    curves: bool = True
    appearance: bool = False
    healthy: bool = False
    balanced: bool = False


@dataclass(frozen=True)
class Metric:
    """A metric of one training.

    Attributes:
        of: reduces the values of all test subjects to one number.
        better: whether higher is better.
    """

    of: Callable[[Float[np.ndarray, "N K"]], float]
    better: bool = True


@runtime_checkable
class Task(Protocol):
    """A task that a network is trained for."""

    metrics: Mapping[str, Metric]

    def sample(self, size: int, seed: int) -> list[Case]:
        """Random training cases; a larger set of the same seed contains the smaller ones."""
        ...

    def requests(self, cases: Sequence[Case], ratio: float, seed: int) -> list[dict[str, Value]]:
        """Conditions of the synthetic scans that are added to real ones."""
        ...

    def real(self, cases: Sequence[Case], out: Path) -> Examples:
        """Real scans with targets."""
        ...

    def synthetic(
        self, images: Tensor, label_maps: Tensor | None, requests: Sequence[Mapping[str, Value]]
    ) -> Examples:
        """Synthetic scans with targets."""
        ...

    def train(self, parts: Sequence[Examples], arm: Arm, seed: int) -> nn.Module:
        """Trains a network on real and synthetic scans."""
        ...

    def predict(self, network: nn.Module, images: Tensor) -> Tensor:
        """Predictions of a network."""
        ...

    def measure(self, network: nn.Module, test: Examples) -> Float[np.ndarray, "N K"]:
        """Values of every test subject."""
        ...


def join(parts: Sequence[Examples]) -> Examples:
    """Several sets of examples as one."""
    return Examples(*(torch.cat(part) for part in zip(*parts, strict=True)))


def augmentation(arm: Arm) -> Augmentation:
    """The augmentation of an arm."""
    if arm.strong:
        return strong
    return classical if arm.classical else unchanged


def random_cases(cases: Sequence[Case], size: int, seed: int, what: str) -> list[Case]:
    """The first cases in a random order that does not depend on the order of the files.

    Raises:
        DataError: E_SPLIT when there are fewer.
    """
    if size > len(cases):
        raise DataError(
            "E_SPLIT", f"{len(cases)} {what}", f"{size} are needed", "lower utility.sizes"
        )
    ordered = sorted(cases, key=lambda case: case.sha256)
    chosen = np.random.default_rng(seed).permutation(len(ordered))[:size]
    return [ordered[number] for number in chosen]
