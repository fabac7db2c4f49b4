"""Training of baselines."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Trainable(Protocol):
    """A network or several, trained on real volumes.

    Attributes:
        batch: volumes a step, as in its paper.
    """

    batch: int

    def networks(self) -> list[nn.Module]:
        """The networks that are trained."""
        ...

    def step(self, volume: Tensor, random: torch.Generator) -> None:
        """One step of every network, on real volumes (B, 1, X, Y, Z) in [-1, 1]."""
        ...


@runtime_checkable
class Baseline(Trainable, Protocol):
    """A generator to compare with."""

    def sample(self, count: int, random: torch.Generator) -> Tensor:
        """Synthetic volumes (N, 1, X, Y, Z) in [-1, 1], on the CPU."""
        ...


class Effort(NamedTuple):
    """Length of a training."""

    volumes_seen: int
    seconds: float


def train_baseline(
    baseline: Trainable,
    volumes: Float[Tensor, "N 1 X Y Z"],
    minutes: float,
    most: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Effort:
    """Trains for a time, or for a number of volumes.

    Args:
        baseline: changed in place.
        volumes: real volumes in [-1, 1].
        minutes: to train; 0 counts volumes instead.
        most: volumes, where `minutes` is 0.
        seed: of the order and of random numbers in steps.
        progress: called with seconds or volumes done and their total.

    Raises:
        FloatingPointError: where the loss is not finite.
    """
    steps = baseline_steps(baseline, volumes, seed)
    seen, started = 0, time.monotonic()
    while True:
        seconds = time.monotonic() - started
        done, total = (seconds, 60 * minutes) if minutes else (seen, most)
        progress(min(int(done), int(total)), int(total))
        if done >= total:
            return Effort(seen, seconds)
        seen = next(steps)


def baseline_steps(
    baseline: Trainable, volumes: Float[Tensor, "N 1 X Y Z"], seed: int
) -> Iterator[int]:
    """Steps without end, each of which gives the volumes seen so far.

    Args:
        baseline: changed in place.
        volumes: real volumes in [-1, 1].
        seed: of the order and of random numbers in steps.

    Raises:
        FloatingPointError: where the loss is not finite.
    """
    random = torch.Generator().manual_seed(seed)
    device = next(baseline.networks()[0].parameters()).device
    order = torch.empty(0, dtype=torch.long, device="cpu")
    for seen in itertools.count(baseline.batch, baseline.batch):
        while len(order) < baseline.batch:
            order = torch.cat([order, torch.randperm(len(volumes), generator=random)])
        chosen, order = order.split([baseline.batch, len(order) - baseline.batch])
        volume = volumes[chosen].to(device, memory_format=torch.channels_last_3d)
        baseline.step(volume, random)
        yield seen
