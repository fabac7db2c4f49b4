"""A training step of medgan, and of GANs that others would train in its place."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from medgan.core.config import Config, Preprocessing
from medgan.data.batches import Batch, BatchStream, PreparedVolumes
from medgan.studies.baselines.ha_gan import HaGan
from medgan.studies.baselines.monai_gan import MonaiGan
from medgan.studies.baselines.plain import PlainGan
from medgan.studies.baselines.training import Trainable
from medgan.studies.baselines.widths import parameters
from medgan.studies.speed.turns import Contender, Work
from medgan.training.loop import step
from medgan.training.tasks import chosen_task
from medgan.training.tasks.task import fullest_step

OURS = "medgan"
_OWN = "medgan (Apache-2.0)"


def training_steps(
    config: Config, volumes: PreparedVolumes, preprocessing: Preprocessing, device: torch.device
) -> list[Contender]:
    """Whole training steps on a batch that is in memory, as in the configuration.

    Args:
        config: model and train sections, for medgan; all take its batch.
        volumes: prepared scans, at least a batch.
        preprocessing: their grid.
        device: where to train.
    """
    batch, seed, shape = config.train.batch, config.train.seed, preprocessing.shape
    steps = math.lcm(*chosen_task(preprocessing, config).periods)
    images = torch.stack([volumes[number][0] for number in range(batch)])
    wanted = parameters(
        list(chosen_task(preprocessing, config).start(device).all_networks().values())
    )

    def ours(grid: Preprocessing) -> Callable[[], Work]:
        def begin() -> Work:
            task = chosen_task(grid, config)
            state = task.start(device)
            state.volumes_seen = fullest_step(task)
            shown = _first_batch(volumes, grid, config, task.arrays).to(device)

            def turn() -> None:
                for _ in range(steps):
                    step(task, state, lambda: shown)

            return Work(turn, steps, _size(parameters(list(state.all_networks().values()))))

        return begin

    def peer(make: Callable[[], Trainable]) -> Callable[[], Work]:
        def begin() -> Work:
            made, random = make(), torch.Generator().manual_seed(seed)
            shown = images.to(device, memory_format=torch.channels_last_3d)

            def turn() -> None:
                for _ in range(steps):
                    made.step(shown, random)

            return Work(turn, steps, _size(parameters(made.networks())))

        return begin

    def monai() -> Work:
        made = MonaiGan(shape, wanted, seed, device)
        return Work(
            lambda: made.train(images, batch, steps), steps, _size(parameters(made.networks()))
        )

    without = preprocessing.model_copy(update={"labels": ()})
    alone = [
        Contender(
            f"{OURS}, image alone", "the same without label channels and their discriminator",
            _OWN, ours(without),
        )
    ] if preprocessing.labels else []  # fmt: skip
    return [
        Contender(
            OURS, "image and label channels, two discriminators with gradient penalties every "
            "second step, encoder, average of weights", _OWN, ours(preprocessing),
        ),
        *alone,
        Contender(
            "MONAI GanTrainer", "image alone; MONAI's Generator and Discriminator with as many "
            "parameters, cross entropy, neither penalty nor encoder", "MONAI (Apache-2.0), "
            "pytorch-ignite (BSD-3-Clause)", monai,
        ),
        Contender(
            "plain GAN", "image alone; two convolutions at every resolution, as many parameters, "
            "hinge loss with spectral norm, neither penalty nor encoder", _OWN,
            peer(lambda: PlainGan(shape, wanted, seed, device)),
        ),
        Contender(
            "HA-GAN", "image alone; networks as wide as the authors', without its encoder",
            "medgan's own code, after the paper (arXiv 2008.01910)",
            peer(lambda: HaGan(shape, seed, device)),
        ),
    ]  # fmt: skip


def _first_batch(
    volumes: PreparedVolumes, grid: Preprocessing, config: Config, arrays: Callable
) -> Batch:
    """The first batch of a training on scans; label channels only where the grid has labels."""
    stream = iter(BatchStream(volumes, config.train.batch, config.train.seed, prepare=arrays))
    batch = next(stream)
    stream.close()
    if grid.labels:
        return batch
    none: Tensor = batch.labels[:, :0]
    return batch.having(labels=none, labelled=torch.zeros_like(batch.labelled))


def _size(count: int) -> dict[str, float]:
    return {"parameters_millions": round(count / 1e6, 2)}
