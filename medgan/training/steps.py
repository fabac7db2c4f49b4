"""One step of the discriminators, one of generator and encoder, one of the average."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medgan.augment import augment, corrupt, draw_augmentation, draw_corruption
from medgan.config import TrainConfig
from medgan.data.loaders import Batch
from medgan.losses import (
    OBJECTIVES,
    between,
    gradient_penalty,
    latent_loss,
    one_centred_penalty,
    probe,
    reconstruction_loss,
)
from medgan.models.discriminator import Discriminator
from medgan.training.state import TrainingState

Scalars = dict[str, Tensor]
_AVERAGE_RAMP = 0.08
"""The average's half-life is at most this share of the volumes seen, so that it leaves the
random start behind."""


def discriminator_step(state: TrainingState, batch: Batch, config: TrainConfig) -> Scalars:
    """Shows real and fake volumes to the discriminators and moves them once.

    Every `penalty_every`-th step adds the gradient penalty.
    """
    penalize = (state.volumes_seen // config.batch) % config.penalty_every == 0
    objective = OBJECTIVES[config.objective].discriminator
    latent = state.draw_latents(len(batch.volume))
    condition = state.drop_conditions(batch.condition, config.condition_dropout)
    with torch.no_grad(), autocast(state, config):
        fake = state.networks.generator(latent, condition, state.random)
    fake = fake.float()
    scalars: Scalars = {}
    loss = torch.zeros((), device=state.device)
    judgements = _judgements(state, batch, fake, condition, config)
    for name, critic, real_pair, fake_pair, given in judgements:
        real_pair = real_pair.detach().requires_grad_(penalize)
        fake_pair = fake_pair.detach().requires_grad_(penalize)
        with autocast(state, config):
            real, unreal = critic.judge(real_pair, given), critic.judge(fake_pair, given)
        adversarial = _over_heads(objective, real, unreal, config)
        loss = loss + adversarial
        scalars[f"{name}/loss"] = adversarial
        scalars[f"{name}/gap"] = (real[0] - unreal[0]).mean()
        if len(real) > 1:
            scalars[f"{name}/patch_gap"] = torch.stack(
                [(r - f).mean() for r, f in zip(real[1:], unreal[1:], strict=True)]
            ).mean()
        if penalize:
            pairs = [(real_pair, real), (fake_pair, unreal)]
            for kind, penalty in _penalties(state, critic, pairs, given, config).items():
                loss = loss + gamma(state, config) / 2 * penalty
                scalars[f"{name}/{kind}"] = penalty
    _move(state.critic_optimizer, loss, learning_rate(state, config))
    state.volumes_seen += len(batch.volume)
    return {key: value.detach() for key, value in scalars.items()}


def generator_step(state: TrainingState, batch: Batch, config: TrainConfig) -> Scalars:
    """Moves the generator, and every `encoder_every`-th time the encoder with it.

    The generator earns realism against the discriminators as they stand (where the objective
    pairs, with fresh real volumes), and with the encoder a latent that can be read back from
    the fake and the clean volume restored from a corrupted one.
    """
    networks = state.networks
    objective = OBJECTIVES[config.objective].generator
    latent = state.draw_latents(len(batch.volume))
    condition = state.drop_conditions(batch.condition, config.condition_dropout)
    scalars: Scalars = {}
    loss = torch.zeros((), device=state.device)
    critics: list[nn.Module] = [networks.discriminator]
    critics += [state.pair_discriminator] if state.pair_discriminator else []
    with frozen(critics), autocast(state, config):
        fake = networks.generator(latent, condition, state.random)
        judgements = _judgements(state, batch, fake, condition, config)
        for name, critic, real_pair, fake_pair, given in judgements:
            with torch.no_grad():
                real = critic.judge(real_pair, given)
            adversarial = _over_heads(objective, real, critic.judge(fake_pair, given), config)
            loss = loss + adversarial
            scalars[f"generator/{name}"] = adversarial
        if (state.volumes_seen // config.batch) % config.encoder_every == 0:
            spoiled = corrupt(batch.volume, draw_corruption(batch.volume, state.random))
            recovered = networks.encoder(fake[:, :1]).float()
            known = _half_known(condition)
            recon = networks.generator(networks.encoder(spoiled), known)[:, :1]
            read_back = latent_loss(latent, recovered)
            restored = reconstruction_loss(batch.volume, recon.float())
            loss = loss + config.latent * read_back + config.reconstruction * restored
            scalars |= {"generator/latent": read_back, "generator/reconstruction": restored}
    _move(state.generator_optimizer, loss, learning_rate(state, config))
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
    """Rises over the warm-up, stays, and falls linearly to 5% in the second half.

    Every rollback halves it.
    """
    rise = min(1.0, (state.volumes_seen + config.batch) / max(config.warmup, 1))
    fall = min(1.0, 2 * (1 - progress(state, config)))
    return config.learning_rate * 0.5**state.watch.rollbacks * rise * max(0.05, fall)


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


def _over_heads(
    objective: Callable[[Tensor, Tensor], Tensor],
    real: list[Tensor],
    fake: list[Tensor],
    config: TrainConfig,
) -> Tensor:
    """The objective of the whole, plus those of the patch heads by their weight."""
    losses = [objective(r, f) for r, f in zip(real, fake, strict=True)]
    return losses[0] + config.patch_weight * sum(losses[1:], losses[0].new_zeros(()))


def _penalties(
    state: TrainingState,
    critic: Discriminator,
    pairs: list[tuple[Tensor, list[Tensor]]],
    given: Tensor,
    config: TrainConfig,
) -> Scalars:
    """The gradient penalties of the configuration, each still without its weight.

    `pairs` holds volumes that require a gradient and the judgement of them: real, then fake.
    """
    patch = config.patch_gamma / config.gamma

    def probed(judgement: list[Tensor]) -> Tensor:
        return probe(judgement, [1.0, *[patch] * (len(judgement) - 1)], state.random)

    with autocast(state, config):
        if config.penalty == "gp":
            (real, _), (fake, _) = pairs
            share = torch.rand(len(real), generator=state.random).to(real.device)
            volume = between(real, fake, share).detach().requires_grad_(True)
            return {"gp": one_centred_penalty(probed(critic.judge(volume, given)), volume)}
        kinds = config.penalty.split("+")
        return {
            kind: gradient_penalty(probed(judgement), volume)
            for kind, (volume, judgement) in zip(kinds, pairs, strict=False)
        }


def _judgements(
    state: TrainingState, batch: Batch, fake: Tensor, condition: Tensor, config: TrainConfig
) -> Iterator[tuple[str, Discriminator, Tensor, Tensor, Tensor]]:
    """Who judges what: the image alone for all, image and labels where there are labels.

    A real volume and the fake paired with it come with the same condition.
    """

    def changed(volume: Tensor) -> Tensor:
        probability = state.augment if config.augment == "adaptive" else config.augment
        if not probability:
            return volume
        drawn = draw_augmentation(volume, probability, state.random, config.mirror)
        return augment(volume, drawn)

    critic = state.networks.discriminator
    yield "critic", critic, changed(batch.volume), changed(fake[:, :1]), condition
    if state.pair_discriminator is not None and bool(batch.labelled.any()):
        real = torch.cat([batch.volume, batch.labels], dim=1)[batch.labelled]
        unreal, given = fake[batch.labelled], condition[batch.labelled]
        yield "pair", state.pair_discriminator, changed(real), changed(unreal), given


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
