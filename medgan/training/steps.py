"""One step of the discriminators, one of generator and encoder, one of the average."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from medgan.core.config import TrainConfig
from medgan.data.batches import Batch
from medgan.networks.augmentation import augment, corrupt, draw_augmentation, draw_corruption
from medgan.networks.discriminator import Discriminator
from medgan.networks.gan import checkpoint_activations, frozen
from medgan.networks.losses import (
    OBJECTIVES,
    between,
    gradient_penalty,
    latent_loss,
    one_centred_penalty,
    reconstruction_loss,
)
from medgan.networks.metrics import clipped_share
from medgan.training.state import TrainingState

Scalars = dict[str, Tensor]
_AVERAGE_RAMP = 0.08
"""The average's half-life is at most this share of the volumes seen, so that it leaves the
random start behind."""
CONDITION_DROPOUT = 0.1
"""How often each condition of a scan is made unknown."""
RECONSTRUCTION_WEIGHT, LATENT_WEIGHT = 10.0, 0.5
"""Weights of the reconstruction loss and of the latent loss."""


def discriminator_step(state: TrainingState, batch: Batch, config: TrainConfig) -> Scalars:
    """Shows real and fake volumes to the discriminators and moves them once.

    Every `penalty_every`-th step adds the gradient penalty.
    """
    penalize = (state.volumes_seen // config.batch) % config.penalty_every == 0
    whole, latents = _drawn(state, batch, config)
    scalars: Scalars = {}
    # A second derivative keeps what is computed again: checkpoints would only cost time here.
    checkpoint_activations(_critics(state), False)
    state.critic_optimizer.zero_grad(set_to_none=True)
    for part, latent in _parts(whole, latents, config):
        _descend(_critic_loss(state, part, latent, whole, penalize, config, scalars))
    _move(state.critic_optimizer, learning_rate(state, config))
    state.volumes_seen += len(batch.volume)
    return scalars


def generator_step(state: TrainingState, batch: Batch, config: TrainConfig) -> Scalars:
    """Moves the generator, and every `encoder_every`-th time the encoder with it.

    The generator earns realism against the discriminators as they stand (where the objective
    pairs, with fresh real volumes), and with the encoder a latent that can be read back from
    the fake and the clean volume restored from a corrupted one.
    """
    encode = (state.volumes_seen // config.batch) % config.encoder_every == 0
    whole, latents = _drawn(state, batch, config)
    scalars: Scalars = {}
    critics = _critics(state)
    networks = [state.networks.generator, state.networks.encoder, *critics]
    checkpoint_activations(networks, config.checkpoint_activations)
    state.generator_optimizer.zero_grad(set_to_none=True)
    with frozen(*critics):
        for part, latent in _parts(whole, latents, config):
            _descend(_realism_loss(state, part, latent, whole, encode, config, scalars))
    if encode:  # apart, so that its activations and those of the fakes never meet in memory
        volume = _moved(batch.volume, state, config)
        corrupted = corrupt(volume, draw_corruption(volume, state.random))
        known = whole._replace(volume=volume, condition=_half_known(whole.condition))
        for part, corrupted_part in _parts(known, corrupted, config):
            share = len(corrupted_part) / len(corrupted)
            _descend(_restoration_loss(state, part, corrupted_part, share, config, scalars))
    _move(state.generator_optimizer, learning_rate(state, config))
    return scalars


def average_step(state: TrainingState, config: TrainConfig) -> None:
    """Moves the average by the share that its half-life, counted in volumes, allows."""
    half_life = min(config.ema_half_life, _AVERAGE_RAMP * state.volumes_seen + config.batch / 2)
    decay = 0.5 ** (config.batch / half_life)
    pairs = zip(state.average.modules().values(), state.networks.modules().values(), strict=True)
    with torch.no_grad():
        for average, module in pairs:
            for mine, new in zip(average.parameters(), module.parameters(), strict=True):
                mine.lerp_(new, 1 - decay)


def progress(state: TrainingState, config: TrainConfig) -> float:
    """Share of the training that is done, by volumes or by minutes, whichever is further."""
    by_volumes = state.volumes_seen / config.volumes
    by_time = state.seconds / (60 * config.minutes) if config.minutes else 0.0
    return min(1.0, max(by_volumes, by_time))


def learning_rate(state: TrainingState, config: TrainConfig) -> float:
    """Rises over the warm-up, stays for a fifth of the training, then falls linearly to 5%.

    Held for half of the training it kept samples on a plateau for most of that time. Every rollback
    halves it.
    """
    rise = min(1.0, (state.volumes_seen + config.batch) / max(config.warmup, 1))
    fall = min(1.0, 1.25 * (1 - progress(state, config)))
    return config.learning_rate * 0.5**state.monitor.rollbacks * rise * max(0.05, fall)


def gamma(state: TrainingState, config: TrainConfig) -> float:
    """Penalty weight: doubled while the networks still find each other."""
    return config.gamma * (2 if state.volumes_seen < 2 * config.warmup else 1)


def autocast(state: TrainingState, config: TrainConfig) -> torch.autocast:
    """bf16 autocast on the training's device, or a context that does nothing."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _drawn(state: TrainingState, batch: Batch, config: TrainConfig) -> tuple[Batch, Tensor]:
    """The batch with some of its conditions made unknown, and as many latents."""
    latents = state.draw_latents(len(batch.volume))
    condition = state.drop_conditions(batch.condition, CONDITION_DROPOUT)
    return batch._replace(condition=condition), latents


def _parts(batch: Batch, more: Tensor, config: TrainConfig) -> Iterator[tuple[Batch, Tensor]]:
    """A batch, and something else of each of its volumes, `micro_batch` volumes at a time."""
    split = (tensor.split(config.micro_batch or len(tensor)) for tensor in (*batch, more))
    return ((Batch(*tensors), last) for *tensors, last in zip(*split, strict=True))


def _critic_loss(
    state: TrainingState,
    part: Batch,
    latent: Tensor,
    whole: Batch,
    penalize: bool,
    config: TrainConfig,
    scalars: Scalars,
) -> Tensor:
    """Objective and penalties of the discriminators on a part of a batch.

    Like the losses below it gives the part's share in the mean over the whole batch, and adds
    its shares of the figures to `scalars`.
    """
    objective = OBJECTIVES[config.objective].discriminator
    with torch.no_grad(), autocast(state, config):
        fake = state.networks.generator(latent, part.condition)
    fake = fake.float()
    loss = torch.zeros((), device=state.device)
    judgements = _judgements(state, part, fake, whole, config)
    for name, critic, real_pair, fake_pair, given, share in judgements:
        real_pair = real_pair.detach().requires_grad_(penalize)
        fake_pair = fake_pair.detach().requires_grad_(penalize)
        with autocast(state, config):
            real, unreal = critic(real_pair, given), critic(fake_pair, given)
        adversarial = share * objective(real, unreal)
        loss = loss + adversarial
        _add(scalars, f"{name}/loss", adversarial)
        _add(scalars, f"{name}/gap", share * (real - unreal).mean())
        if penalize:
            pairs = [(real_pair, real), (fake_pair, unreal)]
            for kind, penalty in _penalties(state, critic, pairs, given, config).items():
                loss = loss + gamma(state, config) / 2 * share * penalty
                _add(scalars, f"{name}/{kind}", share * penalty)
    return loss


def _realism_loss(
    state: TrainingState,
    part: Batch,
    latent: Tensor,
    whole: Batch,
    encode: bool,
    config: TrainConfig,
    scalars: Scalars,
) -> Tensor:
    """Objective of the generator on a part of a batch and, to `encode`, the latent loss."""
    objective = OBJECTIVES[config.objective].generator
    networks = state.networks
    loss = torch.zeros((), device=state.device)
    with autocast(state, config):
        fake = networks.generator(latent, part.condition)
        clipped = clipped_share(fake[:, :1].detach(), part.volume)
        _add(scalars, "generator/clipped", len(latent) / len(whole.volume) * clipped)
        judgements = _judgements(state, part, fake, whole, config)
        for name, critic, real_pair, fake_pair, given, share in judgements:
            with torch.no_grad():
                real = critic(real_pair, given)
            adversarial = share * objective(real, critic(fake_pair, given))
            loss = loss + adversarial
            _add(scalars, f"generator/{name}", adversarial)
        if encode:
            recovered = networks.encoder(fake[:, :1]).float()
            read_back = len(latent) / len(whole.volume) * latent_loss(latent, recovered)
            loss = loss + LATENT_WEIGHT * read_back
            _add(scalars, "generator/latent", read_back)
    return loss


def _restoration_loss(
    state: TrainingState,
    part: Batch,
    corrupted: Tensor,
    share: float,
    config: TrainConfig,
    scalars: Scalars,
) -> Tensor:
    """The reconstruction loss of some volumes, restored from what was corrupted of them."""
    networks = state.networks
    with autocast(state, config):
        recon = networks.generator(networks.encoder(corrupted), part.condition)[:, :1]
        restored = share * reconstruction_loss(part.volume, recon.float())
    _add(scalars, "generator/reconstruction", restored)
    return RECONSTRUCTION_WEIGHT * restored


def _add(scalars: Scalars, name: str, value: Tensor) -> None:
    scalars[name] = scalars[name] + value.detach() if name in scalars else value.detach()


def _critics(state: TrainingState) -> list[nn.Module]:
    pair = [state.pair_discriminator] if state.pair_discriminator else []
    return [state.networks.critic, *pair]


def _penalties(
    state: TrainingState,
    critic: Discriminator,
    pairs: list[tuple[Tensor, Tensor]],
    given: Tensor,
    config: TrainConfig,
) -> Scalars:
    """The gradient penalties of the configuration, each still without its weight.

    `pairs` holds volumes that require a gradient and their logits: real, then fake.
    """
    with autocast(state, config):
        if config.penalty == "gp":
            (real, _), (fake, _) = pairs
            share = torch.rand(len(real), generator=state.random).to(real.device)
            volume = between(real, fake, share).detach().requires_grad_(True)
            return {"gp": one_centred_penalty(critic(volume, given), volume)}
        kinds = config.penalty.split("+")
        return {
            kind: gradient_penalty(logits, volume)
            for kind, (volume, logits) in zip(kinds, pairs, strict=False)
        }


def _judgements(
    state: TrainingState, part: Batch, fake: Tensor, whole: Batch, config: TrainConfig
) -> Iterator[tuple[str, Discriminator, Tensor, Tensor, Tensor, Tensor | float]]:
    """Who judges what: the image alone for all, image and labels where there are labels.

    A real volume and the fake paired with it come with the same condition. Last comes the share
    of the part in what is judged of the whole batch.
    """

    def changed(volume: Tensor) -> Tensor:
        probability = state.augment if config.augment == "adaptive" else config.augment
        if not probability:
            return volume
        drawn = draw_augmentation(volume, probability, state.random)
        return augment(volume, drawn)

    critic, condition = state.networks.critic, part.condition
    share = len(part.volume) / len(whole.volume)
    yield "critic", critic, changed(part.volume), changed(fake[:, :1]), condition, share
    if state.pair_discriminator is not None and bool(part.labelled.any()):
        critic, share = state.pair_discriminator, part.labelled.sum() / whole.labelled.sum()
        real = torch.cat([part.volume, part.labels], dim=1)[part.labelled]
        unreal, given = fake[part.labelled], condition[part.labelled]
        yield "pair", critic, changed(real), changed(unreal), given, share


def _moved(volume: Tensor, state: TrainingState, config: TrainConfig) -> Tensor:
    """What is to be restored: another view of each scan, upright and without noise."""
    if not config.reconstruction_augmentation:
        return volume
    drawn = draw_augmentation(volume, config.reconstruction_augmentation, state.random, flip=False)
    return augment(volume, replace(drawn, spread=torch.zeros_like(drawn.spread))).clamp(-1, 1)


def _half_known(condition: Tensor) -> Tensor:
    """Every second scan's conditions, nothing of the others: scores reconstruct without any."""
    return condition * (torch.arange(len(condition), device=condition.device) % 2)[:, None]


def _descend(loss: Tensor) -> None:
    """Adds to the gradients; a loss that is not finite stops the step before it moves anything."""
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError
    loss.backward()


def _move(optimizer: torch.optim.Adam, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
