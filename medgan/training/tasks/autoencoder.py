"""The first part of a synthesis training: generator and encoder as a variational autoencoder."""

from torch import Tensor

from medgan.data.batches import Batch
from medgan.networks.channels import split_channels
from medgan.networks.losses import reconstruction_loss
from medgan.training.adversary import Scalars, add
from medgan.training.state import TrainingState
from medgan.training.steps import descend, move

NOISE = 0.3
"""Standard deviation of what is added to latents, so that between them, too, there are scans."""
PRIOR_WEIGHT = 1e-3
"""Weight of the latents' squared length, halved, beside mean absolute differences."""
RATE = 2.5
"""Learning rate in that of the adversarial part, whose balance bears less."""
BETAS, LARGEST = (0.9, 0.99), 1.0
"""Adam's averages, and the largest norm of the gradient. With those of the adversarial part (0 and
0.9, no limit) latents grew without bounds from 3,000 volumes on."""
WEIGHT = 10.0
"""Of the whole loss, as of reconstruction in the adversarial part."""


def autoencoder_step(state: TrainingState, batch: Batch, micro_batch: int, rate: float) -> Scalars:
    """Moves generator and encoder once, by scans and their latents alone.

    Args:
        state: of the training.
        batch: with conditions of which some are made unknown.
        micro_batch: volumes whose activations are in memory at a time; 0 is the whole batch.
        rate: learning rate of the adversarial part.

    Raises:
        FloatingPointError: the loss is not finite; nothing was moved.
    """
    scalars: Scalars = {}
    optimizer = state.generator_optimizer
    optimizer.zero_grad(set_to_none=True)
    for part in batch.split(micro_batch):
        descend(state.ranks, autoencoder_loss(state, part, state.share(part, batch), scalars))
    move(state.ranks, optimizer, RATE * rate, BETAS, LARGEST)
    return scalars


def autoencoder_loss(state: TrainingState, part: Batch, share: float, scalars: Scalars) -> Tensor:
    """What generator and encoder minimise before the discriminators take part.

    The absolute error of volumes and of label channels generated from noisy latents, and the
    divergence of these latents from the standard normal ones that samples are drawn from. Of a
    sequence, the neighbour in time is generated: what changes with time is then left to the
    condition, and the latent is the subject.

    Args:
        state: of the training.
        part: of a batch, with conditions of which some are made unknown.
        share: of the part in the batch.
        scalars: receives the error of the volumes and the divergence.

    Reference: Kingma and Welling 2014, arXiv 1312.6114, eq. 10, with one fixed variance.
    """
    networks = state.networks
    target = part.tensors.get("next", part.volume)
    condition = part.tensors.get("next_condition", part.condition)
    with state.autocast():
        mean = networks.encoder(part.volume).float()
        noise = state.randomness.normal(*mean.shape).to(state.device)
        generated = networks.generator(mean + NOISE * noise, condition).float()
    image, labels = split_channels(generated, part.volume.shape[1])
    error = share * reconstruction_loss(target, image)
    divergence = share * mean.square().sum(dim=1).mean() / 2
    add(scalars, "generator/reconstruction", error)
    add(scalars, "generator/divergence", divergence)
    loss = error + PRIOR_WEIGHT * divergence
    if labels.shape[1]:
        labelled = part.labelled
        share_of_labels = state.ranks.weighted(share, labelled.sum())
        if bool(labelled.any()):
            error = reconstruction_loss(part.labels[labelled], labels[labelled])
            loss = loss + share_of_labels * error
    return WEIGHT * loss
