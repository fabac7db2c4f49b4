"""The adversarial part of a step, the same for every task: objective, penalty, augmentation."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from medgan.core.config import TrainConfig
from medgan.networks.augmentation import augment, draw_augmentation
from medgan.networks.discriminator import Discriminator
from medgan.networks.losses import (
    OBJECTIVES,
    Objective,
    between,
    matching_loss,
    one_centred_penalty,
    squared_gradients,
)
from medgan.training.state import TrainingState

Scalars = dict[str, Tensor]
PENALTIES = {
    "relativistic": "r1+r2", "wgan-gp": "gp", "hinge": "r1", "non-saturating": "r1",
    "least-squares": "r1",
}  # fmt: skip
"""The gradient penalty of each objective: zero-centred on reals and fakes (Huang et al. 2024, arXiv
2501.05441), one-centred between them (Gulrajani et al. 2017, arXiv 1704.00028), or zero-centred on
reals (Mescheder et al. 2018, arXiv 1801.04406)."""
MATCHING_WEIGHT = 1.0
"""Of the loss that tells the caption of a scan from that of another."""
PENALTY_EVERY = 2
"""Steps from one penalty to the next. Ten minutes on hippocampi gave a kernel distance of 0.53,
with penalties in every step 0.71; every fourth step diverged (docs/explanation/generator.md)."""


class Judgement(NamedTuple):
    """What one discriminator judges.

    Attributes:
        name: of the discriminator in the metrics.
        discriminator: that judges.
        real, fake: as many volumes each, augmented; those of a pair have the same condition.
        condition: of the pairs.
        share: of these volumes in all that the discriminator judges in this step.
        wrong: the same conditions with captions of other scans, and which captions then differ;
            None without captions.
        wrong_share: of these captions in all that differ in this step.
        way: how far between real and fake volumes the penalty of wgan-gp is taken; None draws it.
    """

    name: str
    discriminator: Discriminator
    real: Tensor
    fake: Tensor
    condition: Tensor
    share: Tensor | float
    wrong: tuple[Tensor, Tensor] | None = None
    wrong_share: Tensor | float = 0.0
    way: Tensor | None = None


@dataclass(frozen=True)
class Penalty:
    """The gradient penalty.

    Attributes:
        kind: `r1+r2`, `r1` or `gp`.
        gamma: weight, halved in the loss; doubled for the first `doubled_until` volumes, while
            both sides still change fast.
        every: steps from one penalty to the next.
        doubled_until: in volumes.
    """

    kind: str
    gamma: float
    every: int
    doubled_until: int

    def weight(self, state: TrainingState) -> float:
        """Gamma at this point of the training."""
        return self.gamma * (2 if state.volumes_seen < self.doubled_until else 1)


@dataclass(frozen=True)
class AugmentationPolicy:
    """Augmentation of what the discriminators see.

    Attributes:
        probability: of each kind of change; `adaptive` takes that of the training state.
    """

    probability: float | Literal["adaptive"]

    def applied(
        self, volume: Tensor, images: int, state: TrainingState, chosen: Tensor | None = None
    ) -> Tensor:
        """The volumes, each changed at random; `images` of their channels are no labels.

        Of `chosen` ones alone where it is given: the draw is for all of them, as other processes
        choose others.
        """
        probability = state.augment if self.probability == "adaptive" else self.probability
        if not probability:
            return volume if chosen is None else volume[chosen]
        drawn = draw_augmentation(volume, probability, state.randomness, images=images)
        if chosen is not None:
            volume, drawn = volume[chosen], drawn.of(chosen)
        return augment(volume, drawn) if len(volume) else volume


@dataclass(frozen=True)
class Adversary:
    """What discriminators and generator minimise against each other.

    Attributes:
        objective: adversarial losses of both sides.
        penalty: of the discriminators.
        augmentation: of what they see.
    """

    objective: Objective
    penalty: Penalty
    augmentation: AugmentationPolicy

    @classmethod
    def of(cls, config: TrainConfig) -> "Adversary":
        """The adversarial part of a configuration."""
        penalty = Penalty(
            PENALTIES[config.objective], config.gamma, PENALTY_EVERY, 2 * config.warmup
        )
        policy = AugmentationPolicy(config.augment)
        return cls(OBJECTIVES[config.objective], penalty, policy)

    def discriminator_loss(
        self, state: TrainingState, judged: Judgement, penalise: bool, scalars: Scalars
    ) -> Tensor:
        """Objective and, to `penalise`, penalties of one discriminator; its metrics are added.

        Args:
            state: of the training.
            judged: real and fake volumes.
            penalise: whether the penalty is due.
            scalars: receives loss, gap and penalties.
        """
        name, discriminator, condition, share = (
            judged.name, judged.discriminator, judged.condition, judged.share,
        )  # fmt: skip
        # Together, as small layers take as long for one volume as for several.
        volume = torch.cat([judged.real, judged.fake]).detach().requires_grad_(penalise)
        both = torch.cat([condition, condition])
        with state.autocast():
            pooled = discriminator.pooled(volume)
            logits = discriminator.judged(pooled, both)
            real, fake = logits.chunk(2)
            matching = _matching(judged, pooled[: len(real)], real)
        loss = share * self.objective.discriminator(real, fake)
        if matching is not None:
            loss = loss + MATCHING_WEIGHT * judged.wrong_share * matching
            add(scalars, f"{name}/matching", judged.wrong_share * matching)
        add(scalars, f"{name}/loss", loss)
        add(scalars, f"{name}/gap", share * (real - fake).mean())
        if penalise:
            for kind, penalty in self._penalties(state, judged, volume, logits).items():
                loss = loss + self.penalty.weight(state) / 2 * share * penalty
                add(scalars, f"{name}/{kind}", share * penalty)
        return loss

    def generator_loss(self, judged: Judgement, scalars: Scalars) -> Tensor:
        """Objective of the generator against one discriminator; its metric is added."""
        with torch.no_grad():
            real = judged.discriminator(judged.real, judged.condition)
        pooled = judged.discriminator.pooled(judged.fake)
        fake = judged.discriminator.judged(pooled, judged.condition)
        loss = judged.share * self.objective.generator(real, fake)
        add(scalars, f"generator/{judged.name}", loss)
        matching = _matching(judged, pooled, fake)
        if matching is None:
            return loss
        add(scalars, f"generator/{judged.name}_matching", judged.wrong_share * matching)
        return loss + MATCHING_WEIGHT * judged.wrong_share * matching

    def ways(self, state: TrainingState, count: int) -> Tensor | None:
        """Where between real and fake volumes the penalty is taken; None where it is at both."""
        if self.penalty.kind != "gp":
            return None
        return state.randomness.uniform(count).to(state.device)

    def _penalties(
        self, state: TrainingState, judged: Judgement, volume: Tensor, logits: Tensor
    ) -> Scalars:
        """The gradient penalties, each without its weight.

        `volume` requires a gradient and holds real volumes, then as many fakes, as do the logits.
        """
        with state.autocast():
            if self.penalty.kind == "gp":
                real, fake = volume.detach().chunk(2)
                way = self.ways(state, len(real)) if judged.way is None else judged.way
                assert way is not None
                middle = between(real, fake, way).requires_grad_(True)
                logits = judged.discriminator(middle, judged.condition)
                return {"gp": one_centred_penalty(logits, middle)}
            kinds = self.penalty.kind.split("+")
            squares = squared_gradients(logits, volume).chunk(2)
            return {kind: one.mean() for kind, one in zip(kinds, squares, strict=False)}


def _matching(judged: Judgement, pooled: Tensor, right: Tensor) -> Tensor | None:
    """The matching loss of volumes with these pooled features; None without captions."""
    if judged.wrong is None:
        return None
    wrong, differ = judged.wrong
    return matching_loss(right, judged.discriminator.judged(pooled, wrong), differ)


def add(scalars: Scalars, name: str, value: Tensor) -> None:
    """Adds a part of a batch's share to a metric of the whole."""
    scalars[name] = scalars[name] + value.detach() if name in scalars else value.detach()
