"""What a model can be trained for, by name: the choices of `train.task`."""

from typing import get_args

from medgan.core.config import Config, ImageTask, Preprocessing
from medgan.training.tasks.harmonisation import Harmonisation
from medgan.training.tasks.image_to_image import ImageToImage
from medgan.training.tasks.restoration import Restoration
from medgan.training.tasks.synthesis import Synthesis
from medgan.training.tasks.task import Task


def chosen_task(preprocessing: Preprocessing, config: Config) -> Task:
    """The task of a configuration.

    Raises:
        ConfigError: E_CHANNEL when scans do not have the channels that it asks for.
    """
    if config.train.task == "harmonisation":
        return Harmonisation.of(preprocessing, config)
    if config.train.task in get_args(ImageTask):
        return ImageToImage.of(preprocessing, config)
    tasks = {"synthesis": Synthesis, "sequence": Synthesis, "restoration": Restoration}
    return tasks[config.train.task].of(preprocessing, config.model, config.train)
