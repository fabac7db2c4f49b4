"""Moves of the weights that every task makes: along a gradient, and of the average."""

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from medgan.core.ranks import Ranks
from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState


def descend(ranks: Ranks, loss: Tensor) -> None:
    """Adds to the gradients; a loss that is not finite stops the step before it moves anything.

    One of several processes says so by gradients that are not finite, which all find in `move`.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    if not bool(torch.isfinite(loss)):
        if ranks.size == 1:
            raise FloatingPointError
        loss = loss * torch.nan
    loss.backward()


def move(
    ranks: Ranks,
    optimizer: torch.optim.Optimizer,
    rate: float,
    betas: tuple[float, float] | None = None,
    longest: float = 0.0,
) -> None:
    """One step of an optimizer along the gradients of all processes.

    Args:
        ranks: the processes.
        optimizer: of parameters whose gradients are those of this process's volumes.
        rate: learning rate.
        betas: Adam's; they stay as they are unless given.
        longest: norm to which the gradient of all volumes is cut; 0 leaves it.

    Raises:
        FloatingPointError: the gradient of one of several processes is not finite; nor that of a
            single one, where its norm is computed to cut it.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not ranks.add_gradients(parameters):
        raise FloatingPointError
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["betas"] = betas or group["betas"]
        if longest:
            norm = torch.nn.utils.clip_grad_norm_(group["params"], longest)
            if not bool(torch.isfinite(norm)):
                raise FloatingPointError
    optimizer.step()


def average_step(state: TrainingState, schedule: Schedule) -> None:
    """Moves the average by the share that its half-life, counted in volumes, allows."""
    decay = schedule.decay(state)
    mine, new = (
        list[Tensor](p for module in networks.modules().values() for p in module.parameters())
        for networks in (state.average, state.networks)
    )
    get_ema_multi_avg_fn(decay)(mine, new, None)
