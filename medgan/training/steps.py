"""Moves of the weights that every task makes: along a gradient, and of the average."""

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState


def descend(loss: Tensor) -> None:
    """Adds to the gradients; a loss that is not finite stops the step before it moves anything.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError
    loss.backward()


def move(
    optimizer: torch.optim.Adam, rate: float, betas: tuple[float, float] | None = None
) -> None:
    """One step of an optimizer at a learning rate; `betas` stay as they are unless given."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["betas"] = betas or group["betas"]
    optimizer.step()


def average_step(state: TrainingState, schedule: Schedule) -> None:
    """Moves the average by the share that its half-life, counted in volumes, allows."""
    decay = schedule.decay(state)
    mine, new = (
        list[Tensor](p for module in networks.modules().values() for p in module.parameters())
        for networks in (state.average, state.networks)
    )
    get_ema_multi_avg_fn(decay)(mine, new, None)
