"""What a training task says; the loop, checkpoints and the monitor are the same for all."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from medgan.anomaly.context import Densities
from medgan.data.batches import Batch, PreparedVolumes
from medgan.training.adversary import Scalars
from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState

Evaluator = Callable[[TrainingState, Path], dict[str, float]]
"""Evaluates the averaged networks: writes a picture to the path and returns `samples/...` metrics,
`samples/diversity` and `samples/clipped` among them, which the monitor needs."""


@runtime_checkable
class Task(Protocol):
    """One kind of training."""

    @property
    def adversarial_from(self) -> float:
        """Share of the training after which the discriminators take part, below 1."""
        ...

    @property
    def schedule(self) -> Schedule:
        """Its length, learning rate and weight average."""
        ...

    @property
    def micro_batch(self) -> int:
        """Volumes whose activations are in memory at a time; 0 is the whole batch."""
        ...

    @property
    def periods(self) -> tuple[int, int]:
        """Discriminator steps from one with all its parts to the next, and generator steps."""
        ...

    def informed(self, volumes: PreparedVolumes, device: torch.device) -> "Task":
        """The task with what it must know of the training scans, on the training's device."""
        ...

    @property
    def densities(self) -> Densities:
        """What the model keeps of that."""
        ...

    def start(self, device: torch.device) -> TrainingState:
        """Networks with fresh weights, which are a function of the seed, and their optimizers."""
        ...

    def example(self, count: int, device: torch.device) -> Batch:
        """A batch of the kind that is trained on, with random content; all scans are labelled."""
        ...

    def arrays(
        self, volumes: PreparedVolumes, number: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """What this task adds to a scan of a batch, or replaces in it; read in a thread.

        Args:
            volumes: all training scans.
            number: of the scan.
            rng: of this place in the stream alone, so that a resumed training, or one of another
                number of processes, reads the same.
        """
        ...

    def discriminator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Moves the discriminators once.

        Raises:
            FloatingPointError: the loss is not finite; nothing was moved.
        """
        ...

    def generator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Moves the networks that are trained against the discriminators once.

        Raises:
            FloatingPointError: the loss is not finite; nothing was moved.
        """
        ...

    def evaluator(
        self, state: TrainingState, validation: PreparedVolumes, training: PreparedVolumes
    ) -> Evaluator:
        """What evaluates this training, with the same scans and latents from first to last."""
        ...


def adversarial(task: Task, state: TrainingState) -> bool:
    """Whether the discriminators take part at this point of a training."""
    return task.schedule.progress(state) >= task.adversarial_from


def fullest_step(task: Task) -> int:
    """Volumes seen before a step in which all is due that comes in some steps only."""
    full = task.schedule.batch * math.lcm(*task.periods)
    return math.ceil(task.adversarial_from * task.schedule.volumes / full) * full
