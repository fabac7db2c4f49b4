"""What a model can be trained for, by name: the choices of `train.task`."""

from collections.abc import Callable

from medgan.core.config import ModelConfig, Preprocessing, TrainConfig
from medgan.training.tasks.restoration import Restoration
from medgan.training.tasks.synthesis import Synthesis
from medgan.training.tasks.task import Task

TASKS: dict[str, Callable[[Preprocessing, ModelConfig, TrainConfig], Task]] = {
    "synthesis": Synthesis.of,
    "restoration": Restoration.of,
}


def chosen_task(preprocessing: Preprocessing, model: ModelConfig, train: TrainConfig) -> Task:
    """The task of a configuration."""
    return TASKS[train.task](preprocessing, model, train)
