"""One step of the discriminators, one of generator and encoder, one of the average."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medgan.augment import corrupt, draw_corruption
from medgan.config import TrainConfig
from medgan.data.loaders import Batch
from medgan.losses import (
    gradient_penalty,
    latent_loss,
    reconstruction_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from medgan.models.discriminator import Discriminator
from medgan.training.state import TrainingState

Scalars = dict[str, Tensor]
_AVERAGE_RAMP = 0.08
"""The average's half-life is at most this share of the volumes seen, so that it leaves the
random start behind."""


def discriminator_step(state: TrainingState, batch: Batch, config: TrainConfig) -> Scalars:
    """Shows real and fake volumes to the discriminators and moves them once.

    Every `penalty_every`-th step adds R1 and R2. Those are second derivatives and run in
    fp32; the other steps run under autocast.
    """
    penalize = (state.volumes_seen // config.batch) % config.penalty_every == 0
    latent = state.draw_latents(len(batch.volume))
    condition = state.drop_conditions(batch.condition, config.condition_dropout)
    with torch.no_grad(), autocast(state, config):
        fake = state.networks.generator(latent, condition)
    fake = fake.float()
    scalars: Scalars = {}
    loss = torch.zeros((), device=state.device)
    for name, critic, real_pair, fake_pair, given in _judgements(state, batch, fake, condition):
        if penalize:
            real_pair = real_pair.detach().requires_grad_(True)
            fake_pair = fake_pair.detach().requires_grad_(True)
            real_logits, fake_logits = critic(real_pair, given), critic(fake_pair, given)
            r1 = gradient_penalty(real_logits, real_pair)
            r2 = gradient_penalty(fake_logits, fake_pair)
            loss = loss + gamma(state, config) / 2 * (r1 + r2)
            scalars |= {f"{name}/r1": r1, f"{name}/r2": r2}
        else:
            with autocast(state, config):
                real_logits, fake_logits = critic(real_pair, given), critic(fake_pair, given)
            real_logits, fake_logits = real_logits.float(), fake_logits.float()
        adversarial = relativistic_discriminator_loss(real_logits, fake_logits)
        loss = loss + adversarial
        scalars[f"{name}/loss"] = adversarial
        scalars[f"{name}/gap"] = (real_logits - fake_logits).mean()
    _move(state.critic_optimizer, loss, learning_rate(state, config))
    state.volumes_seen += len(batch.volume)
    return {key: value.detach() for key, value in scalars.items()}


def generator_step(state: TrainingState, batch: Batch, config: TrainConfig) -> Scalars:
    """Moves generator and encoder once, against the discriminators as they stand.

    The generator earns realism (relativistic, paired with fresh real volumes), a latent that
    can be read back from the fake, and, with the encoder, the clean volume restored from a
    corrupted one.
    """
    networks = state.networks
    latent = state.draw_latents(len(batch.volume))
    condition = state.drop_conditions(batch.condition, config.condition_dropout)
    corruption = draw_corruption(batch.volume, state.random)
    scalars: Scalars = {}
    loss = torch.zeros((), device=state.device)
    critics: list[nn.Module] = [networks.discriminator]
    critics += [state.pair_discriminator] if state.pair_discriminator else []
    with frozen(critics), autocast(state, config):
        fake = networks.generator(latent, condition)
        for name, critic, real_pair, fake_pair, given in _judgements(state, batch, fake, condition):
            with torch.no_grad():
                real_logits = critic(real_pair, given).float()
            fake_logits = critic(fake_pair, given).float()
            adversarial = relativistic_generator_loss(real_logits, fake_logits)
            loss = loss + adversarial
            scalars[f"generator/{name}"] = adversarial
        recovered = networks.encoder(fake[:, :1]).float()
        spoiled = corrupt(batch.volume, corruption)
        recon = networks.generator(networks.encoder(spoiled), _half_known(condition))
    recon = recon[:, :1].float()
    read_back = latent_loss(latent, recovered)
    restored = reconstruction_loss(batch.volume, recon)
    loss = loss + config.latent * read_back + config.reconstruction * restored
    _move(state.generator_optimizer, loss, learning_rate(state, config))
    scalars |= {"generator/latent": read_back, "generator/reconstruction": restored}
    return {key: value.detach() for key, value in scalars.items()}


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
    """Rises over the warm-up, stays, and falls linearly to 5% in the second half."""
    rise = min(1.0, (state.volumes_seen + config.batch) / max(config.warmup, 1))
    fall = min(1.0, 2 * (1 - progress(state, config)))
    return config.learning_rate * rise * max(0.05, fall)


def gamma(state: TrainingState, config: TrainConfig) -> float:
    """Penalty weight: doubled while the networks still find each other."""
    return config.gamma * (2 if state.volumes_seen < 2 * config.warmup else 1)


def autocast(state: TrainingState, config: TrainConfig) -> torch.autocast:
    """bf16 autocast on the training's device, or a context that does nothing."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=config.precision == "bf16")


@contextmanager
def frozen(modules: list[nn.Module]) -> Iterator[None]:
    """No parameter of these modules collects a gradient inside."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


def _judgements(
    state: TrainingState, batch: Batch, fake: Tensor, condition: Tensor
) -> Iterator[tuple[str, Discriminator, Tensor, Tensor, Tensor]]:
    """Who judges what: the image alone for all, image and labels where there are labels.

    A real volume and the fake paired with it come with the same condition.
    """
    yield "critic", state.networks.discriminator, batch.volume, fake[:, :1], condition
    if state.pair_discriminator is not None and bool(batch.labelled.any()):
        real = torch.cat([batch.volume, batch.labels], dim=1)[batch.labelled]
        given = condition[batch.labelled]
        yield "pair", state.pair_discriminator, real, fake[batch.labelled], given


def _half_known(condition: Tensor) -> Tensor:
    """Every second scan's conditions, nothing of the others: scores reconstruct without any."""
    return condition * (torch.arange(len(condition), device=condition.device) % 2)[:, None]


def _move(optimizer: torch.optim.Adam, loss: Tensor, rate: float) -> None:
    """One optimiser step; a loss that is not finite moves nothing."""
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
