"""What a training does when memory runs out: halves what is computed at a time, once."""

import dataclasses
import logging
from typing import cast

import torch

from medgan.core.errors import EnvironmentFailure
from medgan.training.state import TrainingState
from medgan.training.tasks.task import Task

log = logging.getLogger(__name__)


def halved(task: Task, state: TrainingState, before: Task) -> Task:
    """The task with half as many volumes at a time; batches, and what is learned, stay the same.

    Args:
        task: whose step found no memory.
        state: of the training.
        before: the task as the training began: halved once, it is not halved again. Nor are several
            processes, which cannot agree in the middle of a step.

    Raises:
        EnvironmentFailure: E_MEMORY.
    """
    most = task.micro_batch or task.schedule.batch // state.ranks.size
    if task is not before or most == 1 or state.ranks.size > 1:
        raise EnvironmentFailure(
            "E_MEMORY", f"at {state.volumes_seen} volumes", f"memory ran out, {most} at a time",
            "set a smaller train.micro_batch or train.checkpoint_activations=true, or use a larger "
            "machine, and run again to go on from the last checkpoint",
        )  # fmt: skip
    fewer = next(n for n in range(most // 2, 0, -1) if most % n == 0)
    log.warning(
        "memory ran out at %d volumes: from the last checkpoint on %d of %d are computed at a time "
        "(train.micro_batch=%d); batches stay as large", state.volumes_seen, fewer, most, fewer,
    )  # fmt: skip
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    return cast(Task, dataclasses.replace(task, micro_batch=fewer))  # pyright: ignore
