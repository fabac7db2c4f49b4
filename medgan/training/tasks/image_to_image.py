"""Image to image: a translator makes one image of another, against one discriminator."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.context import Densities
from medgan.core.config import Config, ModelConfig, Preprocessing
from medgan.core.conversion import Conversion
from medgan.data.batches import Batch, PreparedVolumes
from medgan.data.pairs import pairing_of
from medgan.data.pairs.pair import Pair, Pairing
from medgan.data.patches import random_patch
from medgan.model.fresh_networks import translating_networks
from medgan.networks.device import uses_bf16
from medgan.networks.losses import ranked_probability_score, weighted_error
from medgan.networks.metrics import clipped_share
from medgan.training.adversary import Adversary, Judgement, Scalars, add
from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState
from medgan.training.tasks.single import discriminator_move, network_move
from medgan.training.tasks.task import Evaluator, adversarial
from medgan.training.translated import evaluate_translation, make_reference

ERROR_WEIGHT = 100.0
"""Weight of the error beside the adversarial loss (Isola et al. 2017, arXiv 1611.07004, section
3.3)."""
NOISE_FROM = 0.5
"""Share of the training after which answers are drawn with noise, unless the discriminator takes
part before. Until then there is the answer without noise alone, in a third of the time."""
BETAS = (0.9, 0.99)
"""Adam's, of the translator: most of its loss does not change as it learns."""


@dataclass(frozen=True)
class ImageToImage:
    """A translator against one discriminator, which sees sources beside targets.

    Attributes:
        preprocessing: grid and channels.
        model: sizes of the networks.
        conversion: what is made of what.
        pairing: makes the pairs to learn from.
        schedule: length, learning rate and weight average.
        adversary: objective, penalty and augmentation.
        micro_batch: patches whose activations are in memory at a time; 0 is the whole batch.
        checkpoint_activations: whether the translator's step computes activations twice.
        bf16: whether networks run under autocast.
        seed: of weights, patches and noise.
        adversarial_from: share of the training after which the discriminator takes part.
    """

    preprocessing: Preprocessing
    model: ModelConfig
    conversion: Conversion
    pairing: Pairing
    schedule: Schedule
    adversary: Adversary
    micro_batch: int
    checkpoint_activations: bool
    bf16: bool
    seed: int
    adversarial_from: float

    @classmethod
    def of(cls, preprocessing: Preprocessing, config: Config) -> "ImageToImage":
        """The task of a configuration.

        Raises:
            ConfigError: E_CHANNEL when scans do not have the channels.
        """
        train, chosen = config.train, config.translate
        same = preprocessing.channels  # of tasks that change an image, and do not make another
        conversion = Conversion(
            train.task, chosen.source or same, chosen.target or same, chosen.noise
        )
        return cls(
            preprocessing, config.model, conversion, pairing_of(preprocessing, conversion),
            Schedule.of(train), Adversary.of(train), train.micro_batch,
            train.checkpoint_activations, uses_bf16(train.precision, train.device), train.seed,
            1 - chosen.adversarial,
        )  # fmt: skip

    @property
    def periods(self) -> tuple[int, int]:
        """Of the penalty; steps of the translator are all alike."""
        return self.adversary.penalty.every, 1

    @property
    def densities(self) -> Densities:
        """None."""
        return {}

    def informed(self, volumes: PreparedVolumes, device: torch.device) -> "ImageToImage":
        """The same: training scans come in batches only."""
        return self

    def start(self, device: torch.device) -> TrainingState:
        """Networks with fresh weights, which are a function of the seed, and their optimizers."""
        torch.manual_seed(self.seed)
        networks = translating_networks(self.preprocessing, self.model, self.conversion)
        trained = [networks.needed_translator]
        return TrainingState.fresh(networks, trained, None, self.seed, device, self.bf16, BETAS)

    def example(self, count: int, device: torch.device) -> Batch:
        """A batch with random images."""
        shape, pairing = self.preprocessing.shape, self.pairing
        return Batch(
            {
                "volume": torch.rand(count, pairing.target_channels, *shape, device=device) * 2 - 1,
                "source": torch.rand(count, pairing.source_channels, *shape, device=device) * 2 - 1,
                "weight": torch.ones(count, 1, *shape, device=device),
                "condition": torch.zeros(count, 0, device=device),
            }
        )

    def arrays(
        self, volumes: PreparedVolumes, number: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """A pair from a patch of a whole scan: the target as `volume`, `source` and `weight`."""
        pair = self._pair(volumes, number, rng)
        return {
            "volume": pair.target,
            "source": pair.source,
            "weight": pair.weight,
            "condition": np.zeros(0, np.float32),
        }

    def _pair(self, volumes: PreparedVolumes, number: int, rng: np.random.Generator) -> Pair:
        patch = random_patch(*volumes.arrays(number), self.preprocessing.shape, rng)
        return self.pairing(*patch, rng)

    def discriminator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Shows sources with real and with drawn targets to the discriminator, moves it once."""
        translator = state.networks.needed_translator

        def judged(part: Batch) -> Judgement:
            with torch.no_grad(), state.autocast():
                drawn = translator(part["source"], self._noise(state, part))
            return self._judgement(state, part, drawn, len(batch) * state.ranks.size)

        parts, since = list(batch.split(self.micro_batch)), self.adversarial_from
        return discriminator_move(state, parts, judged, self.adversary, self.schedule, since)

    def generator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Moves the translator, by the target and, late, against the discriminator as it is."""
        count = len(batch) * state.ranks.size
        return network_move(
            state, list(batch.split(self.micro_batch)), state.networks.needed_translator,
            lambda part, scalars: self._loss(state, part, count, scalars), self.schedule,
            self.checkpoint_activations,
        )  # fmt: skip

    def evaluator(
        self, state: TrainingState, validation: PreparedVolumes, training: PreparedVolumes
    ) -> Evaluator:
        """Errors of the averaged translator on pairs from validation scans."""
        rng = np.random.default_rng([self.seed, 1])
        known, seen = (
            [self._pair(volumes, n, rng) for n in range(len(volumes)) for _ in range(repeats)]
            for volumes, repeats in ((validation, 4), (training, 1))
        )
        reference = make_reference(known, seen)
        return partial(
            evaluate_translation,
            reference=reference,
            batch=self.micro_batch or self.schedule.batch // state.ranks.size,
        )

    def _sees_noise(self, state: TrainingState) -> bool:
        """Whether several answers are drawn at this point of the training."""
        late = self.schedule.progress(state) >= min(NOISE_FROM, self.adversarial_from)
        return self.conversion.noise and late

    def _noise(self, state: TrainingState, part: Batch) -> Tensor | None:
        """One number a voxel, for a network that sees noise by now."""
        if not self._sees_noise(state):
            return None
        return state.randomness.voxels(len(part), 1, *part.volume.shape[2:]).to(state.device)

    def _loss(self, state: TrainingState, part: Batch, count: int, scalars: Scalars) -> Tensor:
        """What the translator minimises on a part of a batch of `count` pairs in all."""
        share, translator = len(part) / count, state.networks.needed_translator
        seen = state.ranks.weighted(share, part["weight"].sum())
        with state.autocast():
            usual = translator(part["source"])
        error = seen * weighted_error(part.volume, usual, part["weight"])
        add(scalars, "generator/error", error)
        add(scalars, "generator/clipped", share * clipped_share(usual.detach(), part.volume))
        loss, judged_answer = ERROR_WEIGHT * error, usual
        if self._sees_noise(state):
            with state.autocast():
                a, b = (translator(part["source"], self._noise(state, part)) for _ in range(2))
            score = seen * ranked_probability_score(part.volume, a, b, part["weight"])
            add(scalars, "generator/score", score)
            loss, judged_answer = loss + ERROR_WEIGHT * score, a
        if adversarial(self, state):
            with state.autocast():
                judged = self._judgement(state, part, judged_answer, count)
                loss = loss + self.adversary.generator_loss(judged, scalars)
        return loss

    def _judgement(self, state: TrainingState, part: Batch, drawn: Tensor, count: int) -> Judgement:
        """Sources beside real and beside drawn targets; where nothing was seen, these are equal."""
        source, weight, images = part["source"], part["weight"], self.pairing.target_channels
        shown = weight * drawn.float() + (1 - weight) * part.volume

        def changed(target: Tensor) -> Tensor:
            pair = torch.cat([target, source], dim=1)
            return self.adversary.augmentation.applied(pair, images, state)

        return Judgement(
            "critic", state.networks.critic, changed(part.volume), changed(shown), part.condition,
            len(part) / count,
        )  # fmt: skip
