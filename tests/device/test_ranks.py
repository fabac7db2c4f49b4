"""What processes add up is on the device of the training, what they say on the CPU."""

import pytest
import torch
import torch.distributed as dist

from medgan.core.ranks import Ranks
from medgan.training.loop import step
from medgan.training.state import TrainingState
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.captions import captioned_grid
from tests.kit.models import CONFIG, SIZES

TALK = object()
TRAIN = CONFIG.train.model_copy(update={"precision": "fp32", "augment": 0.5, "batch": 4})


@pytest.fixture
def twins(monkeypatch, device):
    """The first of two processes, whose other one has the same numbers; where they were."""
    where = set()

    def seen(tensor, group):
        where.add((tensor.device.type, group is TALK))

    def all_reduce(tensor, op=dist.ReduceOp.SUM, group=None):
        seen(tensor, group)
        if op == dist.ReduceOp.SUM:
            tensor.mul_(2)

    def all_gather(parts, own, group=None):
        seen(own, group)
        for part in parts:
            part.copy_(own)

    def all_to_all_single(incoming, outgoing, *sizes):
        seen(outgoing, None)
        incoming.copy_(outgoing)

    for function in (all_reduce, all_gather, all_to_all_single):
        monkeypatch.setattr(dist, function.__name__, function)
    return Ranks(0, 2, 2, TALK), where


def test_steps_of_several_processes_mix_no_devices(device, twins):
    ranks, where = twins
    task = Synthesis.of(captioned_grid(labels=(1,)), SIZES, TRAIN)
    state: TrainingState = task.start(device)
    state.ranks = ranks
    shown = task.example(2, device)
    shown = shown.having(labelled=torch.tensor([True, False]).to(device))
    scalars = step(task, state, lambda: shown)
    scalars |= step(task, state, lambda: shown)  # the encoder takes part in every second
    assert {"critic/matching", "pair/r1", "generator/reconstruction"} <= set(scalars)
    ranks.exchange({name: float(value) for name, value in scalars.items()})
    ranks.require_alike(state.size)
    assert where == {(device.type, False), ("cpu", True)}
    assert state.is_finite()
