"""Processes that share each batch learn what one learns from the whole of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.anomaly.context import LOCAL, ScoringNetworks
from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import coarse_features
from medgan.core.config import LocaliserConfig, Preprocessing, build
from medgan.core.errors import TrainingDiverged
from medgan.core.ranks import Ranks
from medgan.data.batches import Batch
from medgan.networks.blocks import Stages
from medgan.networks.device import uses_bf16
from medgan.networks.localiser import Localiser
from medgan.networks.losses import localisation_loss
from medgan.tracking.tracker import Trackers
from medgan.training import localiser as module
from medgan.training.localiser import train_localiser
from medgan.training.loop import step, train
from medgan.training.monitor import Criteria
from medgan.training.state import TrainingState
from medgan.training.tasks import chosen_task
from medgan.training.tasks.task import Task
from tests.kit.captions import captioned_grid
from tests.kit.data_sets import TINY
from tests.kit.models import BY_AGE_AND_SEX
from tests.kit.ranks import on_ranks, without_a_slope

CPU = torch.device("cpu")
BATCH, STEPS = 4, 20
EPSILON = 1e-4
"""Adam's. With 1e-8 it makes whole steps of rounding errors, where a gradient is zero: the bias of
a discriminator cancels between real and fake volumes."""
COMMON = {"precision": "fp32", "batch": BATCH, "augment": 0.3, "warmup": 8, "volumes": 160}
SCANS = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16))
PATCHES = SCANS.model_copy(update={"patches": True, "channels": ("a", "b")})
SYNTHESIS, TRANSLATED = BY_AGE_AND_SEX, {"source": ["a"], "target": ["b"], "adversarial": 0.2}
CASES = {
    "synthesis": (SYNTHESIS, {}, {}),
    "synthesis by wgan-gp": (SYNTHESIS, {"objective": "wgan-gp"}, {}),
    "synthesis after an autoencoder": (SYNTHESIS, {"autoencode": 0.25}, {}),
    "synthesis of captions": (captioned_grid(labels=(1,)), {}, {}),
    "restoration": (SCANS, {"task": "restoration"}, {}),
    "translation": (PATCHES, {"task": "translation"}, TRANSLATED),
    "harmonisation": (PATCHES, {"task": "harmonisation"}, {}),
}  # fmt: skip
"""Grid, settings of the training, and of the translation."""


def task_of(name: str, micro_batch: int) -> Task:
    grid, train, translate = CASES[name]
    sections = {
        "data": TINY["data"] | {"patches": grid.patches},
        "model": TINY["model"] | {"widths": [8, 8], "stem_channels": 8},
        "train": TINY["train"] | COMMON | train | {"micro_batch": micro_batch},
        "translate": translate,
    }
    return chosen_task(grid, build(sections))


def batches(task: Task, ranks: Ranks) -> Iterator[Batch]:
    """This process's share of random batches in which some scans have no labels."""
    torch.manual_seed(5)
    while True:
        whole = task.example(BATCH, CPU)
        more = {"condition": torch.randn_like(whole.condition)}
        if "labelled" in whole.tensors:
            more["labelled"] = torch.rand(BATCH) < 0.4
        if "weight" in whole.tensors:
            more["weight"] = (torch.rand_like(whole["weight"]) < 0.5).float()
        tensors = whole.having(**more).tensors
        yield Batch({name: rows[ranks.rank :: ranks.size] for name, rows in tensors.items()})


def course(ranks: Ranks, name: str, micro_batch: int = 0) -> tuple[list, list]:
    """The metrics of some steps, and all gradients of the first ones."""
    task = task_of(name, micro_batch)
    state = task.start(CPU)
    state.ranks = ranks
    if task.adversarial_from > 0.5:
        state.volumes_seen = 120  # of 160: soon the discriminator takes part
    for optimizer in (state.discriminator_optimizer, state.generator_optimizer):
        for group in optimizer.param_groups:
            group["eps"] = EPSILON
    shown, found, gradients = batches(task, ranks), [], []
    for number in range(STEPS):
        scalars = step(task, state, lambda: next(shown))
        parts = ranks.exchange({key: float(value) for key, value in scalars.items()})
        names = {key for part in parts for key in part}
        found.append({key: sum(part.get(key, 0.0) for part in parts) for key in names})
        parameters = [p for m in state.all_networks().values() for p in m.parameters()]
        if number < 4:
            gradients.append(
                [None if p.grad is None else p.grad.numpy().copy() for p in parameters]
            )
    return found, gradients


def same_course(name: str, tolerance: float, micro_batch: int = 0) -> None:
    """Two processes against one, whose micro-batches are those of both together."""
    expected, gradients = course(Ranks(), name, 2 * micro_batch)
    assert any("critic/r1" in metrics or "critic/gp" in metrics for metrics in expected)
    for metrics, found in on_ranks(2, course, name, micro_batch):
        for ours, other in zip(metrics, expected, strict=True):
            for one in (ours, other):
                one |= {"generator/clipped": 0.0}  # here, a mean of means
            assert ours == pytest.approx(other, rel=tolerance, abs=tolerance)
        for ours, other in zip(found, gradients, strict=True):
            largest = max(np.abs(one).max() for one in other if one is not None)
            for one, two in zip(ours, other, strict=True):
                assert (one is None) == (two is None)
                if one is not None:
                    assert np.abs(one - two).max() < 1e-5 * largest


def test_two_processes_learn_what_one_learns():
    same_course("synthesis", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES)[1:])
def test_two_processes_learn_what_one_learns_in_every_task(name):
    same_course(name, 1e-4)  # where rounding moves a voxel across a limit, gradients jump


@pytest.mark.slow
def test_two_processes_in_micro_batches_learn_what_one_learns():
    same_course("synthesis", 1e-5, micro_batch=1)


class Shares:
    """A stream of this process's share of batches, of which one is once not a number."""

    def __init__(self, task: Task, ranks: Ranks, wrong: int) -> None:
        self.position, self._task, self._ranks, self._wrong = 0, task, ranks, wrong

    def __iter__(self) -> Iterator[Batch]:
        for shown in batches(self._task, self._ranks):
            self.position += BATCH
            if self.position == self._wrong and self._ranks.rank == self._ranks.size - 1:
                shown = shown.having(volume=shown.volume * torch.nan)
            yield shown


def short(name: str, ranks: Ranks) -> tuple[Task, TrainingState]:
    """A training of six steps at its start."""
    task = task_of(name, 0)
    schedule = replace(task.schedule, volumes=6 * BATCH, evaluate_every=4 * BATCH)
    task = replace(task, schedule=schedule)
    state = task.start(CPU)
    state.ranks = ranks
    return task, state


def trained(task: Task, state: TrainingState, stream: "Shares", folder: Path) -> list[int]:
    """Trains to the end; volumes seen at each evaluation."""
    looks = []

    def evaluate(state, path):
        looks.append(state.volumes_seen)
        return {"samples/clipped": 0.0, "samples/diversity": 1.0, "samples/kernel_distance": 1.0}

    criteria = Criteria("kernel_distance", None, 0, True, True)
    train(task, state, stream, evaluate, criteria, Trackers([]), folder)
    return looks


def rolled_back(ranks: Ranks, folder: Path) -> list[float]:
    """What is left of a training of six steps whose seventh batch is wrong for one process."""
    task, state = short("synthesis", ranks)
    looks = trained(task, state, Shares(task, ranks, 7 * BATCH), folder)
    return [state.monitor.rollbacks, state.volumes_seen, state.volumes_drawn, len(looks),
            state.size()]  # fmt: skip


def test_a_number_that_is_not_finite_in_one_process_sends_all_back(tmp_path):
    one = rolled_back(Ranks(), tmp_path / "one")
    assert one[:3] == [1, 6 * BATCH, 15 * BATCH]
    leader, other = on_ranks(2, rolled_back, tmp_path / "two")
    assert leader == pytest.approx(one, rel=1e-5)
    assert other == [*one[:3], 0, leader[4]]  # the first process alone evaluates


def diverging(ranks: Ranks, name: str, folder: Path) -> None:
    """A training in which the gradient of one process is not a number, though its loss is."""
    task, state = short(name, ranks)
    stream = Shares(task, ranks, 0)

    def spoiled(gradient):
        late = stream.position > 2 * BATCH and ranks.rank == ranks.size - 1
        return gradient * torch.nan if late else gradient

    for network in state.networks.modules().values():
        next(network.parameters()).register_hook(spoiled)
    trained(task, state, stream, folder)


SIBLINGS = [
    pytest.param(name, marks=() if name == "restoration" else pytest.mark.slow)
    for name in ("synthesis", "synthesis after an autoencoder", *list(CASES)[4:])
]


@pytest.mark.parametrize("name", SIBLINGS)
def test_a_gradient_that_is_never_finite_ends_all_processes_alike(name, tmp_path):
    with pytest.raises(TrainingDiverged, match=r"E_NAN at .* after 2 rollbacks"):
        diverging(Ranks(), name, tmp_path / "one")
    for answer in on_ranks(2, diverging, name, tmp_path / "two"):
        assert answer.startswith("TrainingDiverged: E_NAN at")
        assert "after 2 rollbacks; last good checkpoint: 000000000" in answer


def localised(ranks: Ranks, folder: Path, spoiled: bool = False) -> np.ndarray:
    """Weights of a localiser after three steps in fp32.

    Args:
        ranks: the processes.
        folder: receives the checkpoint.
        spoiled: whether the last process gets a gradient that is not a number.
    """
    if spoiled and ranks.rank == ranks.size - 1:
        module.localisation_loss = lambda logits, truth, summed: (
            localisation_loss(logits, truth, summed=summed) + without_a_slope(logits)
        )
    module.uses_bf16 = lambda precision, device: False
    torch.manual_seed(0)
    scans = torch.rand(6, 1, 16, 16, 16) * 2 - 1
    networks = ScoringNetworks(
        None, None, None, {LOCAL: FeatureDensity.fit([coarse_features(scans)])}
    )
    localiser = Localiser(("density",), Stages((8, 8), 4, 1))
    try:
        train_localiser(
            networks, 8, localiser, list(scans.numpy()), ["brighter"], LocaliserConfig(volumes=24),
            0, folder, ranks=ranks,
        )  # fmt: skip
    finally:
        module.uses_bf16, module.localisation_loss = uses_bf16, localisation_loss
    return torch.cat([p.detach().flatten() for p in localiser.parameters()]).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_a_localiser_learns_the_same_from_the_shares_of_several_processes(size, tmp_path):
    weights = localised(Ranks(), tmp_path / "one")
    for found in on_ranks(size, localised, tmp_path / "more"):  # of 3, one has nothing to show
        assert np.abs(found - weights).max() < 1e-5
    assert (tmp_path / "more" / module.CHECKPOINT).is_file()


def test_a_localiser_with_a_gradient_that_is_not_finite_ends_all_processes_alike(tmp_path):
    with pytest.raises(TrainingDiverged) as alone:
        localised(Ranks(), tmp_path / "one", spoiled=True)
    assert alone.value.code == "E_NAN"
    expected = [f"TrainingDiverged: {alone.value}"] * 2
    assert on_ranks(2, localised, tmp_path / "two", True) == expected
