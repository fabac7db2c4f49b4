"""Classification as a task of a utility study."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.config import Preprocessing, UtilityConfig
from medgan.core.errors import ConfigError, DataError
from medgan.data.conditions import Value, covariate_of, is_known
from medgan.data.manifest import Case
from medgan.data.prepared import read_scans
from medgan.evaluation.probes.classification import (
    classification_metrics,
    classify,
    train_classifier,
)
from medgan.studies.utility.task import Arm, Examples, Metric, augmentation, join, random_cases


class Classification:
    """A small network is trained to find the scans of a rare group.

    Args:
        cases: of the training split.
        preprocessing: the grid.
        settings: the utility section.

    Raises:
        ConfigError: E_VALUE, E_CONDITION.
        DataError: E_SPLIT with too few scans of a group.
    """

    metrics: Mapping[str, Metric] = {
        "balanced accuracy": Metric(
            lambda rows: classification_metrics(rows[:, 0], rows[:, 1]).balanced_accuracy
        ),
        "AUROC": Metric(lambda rows: classification_metrics(rows[:, 0], rows[:, 1]).auroc),
        "minority recall": Metric(
            lambda rows: classification_metrics(rows[:, 0], rows[:, 1]).minority_recall
        ),
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
        """1 for the rare group, 0 for the frequent one, None where unknown."""
        return self._group_of(covariate_of(case, self._settings.target))

    def _group_of(self, value: Value) -> int | None:
        settings = self._settings
        rare = _within(settings.rare, value)
        if rare or not settings.frequent:
            return None if rare is None else int(rare)
        return 0 if _within(settings.frequent, value) else None

    def sample(self, size: int, seed: int) -> list[Case]:
        """As `Task.sample`."""
        few = max(2, round(self._settings.share * size))
        many = random_cases(
            self._groups[0], size - few, seed, "training scans of the frequent group"
        )
        return many + random_cases(self._groups[1], few, seed, "training scans of the rare group")

    def requests(self, cases: Sequence[Case], ratio: float, seed: int) -> list[dict[str, Value]]:
        """Scans of the rare group, as many as it lacks or `ratio` times that, and of the other.

        Conditions are those of real scans of the group. With synthetic scans of the rare group
        alone, a network would learn to detect synthetic scans.
        """
        target, requests = self._settings.target, []
        random = np.random.default_rng([seed, 2])
        by_group = [[c for c in cases if self._group(c) == group] for group in (1, 0)]
        missing = round(ratio * (len(by_group[1]) - len(by_group[0])))
        for group in by_group:
            chosen = random.integers(0, len(group), missing)
            requests += [{target: covariate_of(group[n], target)} for n in chosen]
        return requests

    def groups(self, cases: Sequence[Case]) -> Tensor:
        """The groups (N,) of scans that are of one."""
        return torch.tensor([self._group(case) for case in cases], device="cpu")

    def real(self, cases: Sequence[Case], out: Path) -> Examples:
        """As `Task.real`."""
        known = [case for case in cases if self._group(case) is not None]
        groups = self.groups(known)
        if len(groups.unique()) < 2:
            raise DataError(
                "E_SPLIT", "utility.tested",
                f"the {len(known)} scans to test on are not of both groups of utility.target",
                "check utility.rare",
            )  # fmt: skip
        return Examples(read_scans(known, self._preprocessing, out).images, groups)

    def synthetic(
        self, images: Tensor, label_maps: Tensor | None, requests: Sequence[Mapping[str, Value]]
    ) -> Examples:
        """As `Task.synthetic`."""
        groups = [self._group_of(request[self._settings.target]) for request in requests]
        return Examples(images, torch.tensor(groups, device="cpu"))

    def train(self, parts: Sequence[Examples], arm: Arm, seed: int) -> nn.Module:
        """As `Task.train`."""
        stages = [parts[1:], parts[:1]] if arm.first else [parts]
        steps, network = self._settings.steps // len(stages), None
        for stage in stages:
            kinds = torch.cat([part.targets + 2 * n for n, part in enumerate(stage)]).cpu()
            weights = (1 / torch.bincount(kinds, minlength=4))[kinds]
            network = train_classifier(
                *join(stage), steps, seed, augment=augmentation(arm),
                weights=weights if arm.balanced else None, network=network,
            )  # fmt: skip
        assert network is not None, "there is a set to train on"
        return network

    def predict(self, network: nn.Module, images: Tensor) -> Tensor:
        """Probabilities (N,) of the rare group."""
        return classify(network, images)

    def measure(self, network: nn.Module, test: Examples) -> Float[np.ndarray, "N K"]:
        """As `Task.measure`."""
        predicted = self.predict(network, test.images)
        return torch.stack([predicted.double(), test.targets.double()], dim=1).cpu().numpy()


def _within(group: str, value: Value) -> bool | None:
    """Whether a value is a category or in a range, as above 60; None where that is not known."""
    if not is_known(value):
        return None
    side, _, cut = group.partition(" ")
    if side not in ("above", "below"):
        return str(value) == group
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number > float(cut) if side == "above" else number < float(cut)
