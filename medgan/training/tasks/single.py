"""The two steps of tasks that train one network against one discriminator."""

from collections.abc import Callable

from torch import Tensor, nn

from medgan.data.batches import Batch
from medgan.networks.gan import checkpoint_activations, frozen
from medgan.training.adversary import Adversary, Judgement, Scalars
from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState
from medgan.training.steps import descend, move


def discriminator_move(
    state: TrainingState,
    parts: list[Batch],
    judged: Callable[[Batch], Judgement],
    adversary: Adversary,
    schedule: Schedule,
    since: float = 0.0,
) -> Scalars:
    """Moves the discriminator once, by what it is shown of every part of a batch.

    Args:
        state: of the training.
        parts: of the batch.
        judged: what the discriminator is shown of a part.
        adversary: objective and penalty.
        schedule: says whether the penalty is due, and the learning rate.
        since: share of the training after which the discriminator takes part.

    Raises:
        FloatingPointError: the loss is not finite; nothing was moved.
    """
    penalise = schedule.step_is_due(state, adversary.penalty.every)
    scalars: Scalars = {}
    checkpoint_activations(state.discriminators(), False)
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    for part in parts:
        descend(state.ranks, adversary.discriminator_loss(state, judged(part), penalise, scalars))
    move(state.ranks, state.discriminator_optimizer, schedule.rate(state, since))
    return scalars


def network_move(
    state: TrainingState,
    parts: list[Batch],
    network: nn.Module,
    loss: Callable[[Batch, Scalars], Tensor],
    schedule: Schedule,
    checkpointed: bool,
) -> Scalars:
    """Moves the network once, against the discriminator as it is.

    Args:
        state: of the training.
        parts: of the batch.
        network: that is trained.
        loss: of a part; adds its metrics.
        schedule: gives the learning rate.
        checkpointed: whether activations are computed twice.

    Raises:
        FloatingPointError: the loss is not finite; nothing was moved.
    """
    discriminators = state.discriminators()
    checkpoint_activations([network, *discriminators], checkpointed)
    scalars: Scalars = {}
    state.generator_optimizer.zero_grad(set_to_none=True)
    with frozen(*discriminators):
        for part in parts:
            descend(state.ranks, loss(part, scalars))
    move(state.ranks, state.generator_optimizer, schedule.rate(state))
    return scalars
