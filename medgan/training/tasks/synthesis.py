"""Synthesis: a generator draws scans from latents, an encoder finds the latent of a scan.

Of sequences, it draws a scan of the subject that a latent is, at a time that is a condition.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.context import Densities
from medgan.core.config import ModelConfig, Preprocessing, TrainConfig
from medgan.data.batches import Batch, PreparedVolumes
from medgan.data.codebook import channels
from medgan.data.conditions import width, widths
from medgan.model.fresh_networks import sides_alike, synthesis_networks
from medgan.networks.augmentation import corrupt, draw_corruption
from medgan.networks.channels import image_channels, split_channels
from medgan.networks.device import uses_bf16
from medgan.networks.gan import checkpoint_activations, frozen
from medgan.networks.losses import latent_loss, reconstruction_loss
from medgan.networks.metrics import clipped_share
from medgan.training.adversary import Adversary, Judgement, Scalars, add
from medgan.training.draws import (
    another_view,
    draw_latents,
    draw_noise,
    drop_conditions,
    fakes,
    half_mirrored,
    with_captions,
)
from medgan.training.encoder_losses import (
    ENCODER_EVERY,
    LATENT_WEIGHT,
    RECONSTRUCTION_WEIGHT,
    EncoderLosses,
)
from medgan.training.neighbours import Neighbours
from medgan.training.pairs import pair_discriminator, pairs
from medgan.training.samples import Adaptation, evaluate_samples, make_reference
from medgan.training.schedule import Schedule
from medgan.training.state import ADVERSARIAL_BETAS, TrainingState
from medgan.training.steps import descend, move
from medgan.training.tasks.autoencoder import autoencoder_step
from medgan.training.tasks.task import Evaluator, adversarial


@dataclass(frozen=True)
class Synthesis:
    """Generator and encoder against a discriminator of images, and one of images with labels.

    Attributes:
        preprocessing: grid, labels and conditions.
        model: sizes of the networks.
        schedule: length, learning rate and weight average.
        adversary: objective, penalty and augmentation.
        encoder: what the encoder learns by.
        micro_batch: volumes whose activations are in memory at a time; 0 is the whole batch.
        checkpoint_activations: whether the generator's step computes activations twice.
        init_background: whether the generator's first samples are black.
        bf16: whether networks run under autocast.
        seed: of weights, latents and corruptions.
        adversarial_from: share of the training in which there are no discriminators.
        neighbours: in time, which the second discriminator judges in place of labels; None for
            scans that are no sequences.
    """

    preprocessing: Preprocessing
    model: ModelConfig
    schedule: Schedule
    adversary: Adversary
    encoder: EncoderLosses
    micro_batch: int
    checkpoint_activations: bool
    init_background: bool
    bf16: bool
    seed: int
    adversarial_from: float
    neighbours: Neighbours | None = None

    @classmethod
    def of(
        cls, preprocessing: Preprocessing, model: ModelConfig, train: TrainConfig
    ) -> "Synthesis":
        """The task of a configuration."""
        return cls(
            preprocessing, model, Schedule.of(train), Adversary.of(train),
            EncoderLosses(ENCODER_EVERY, train.reconstruction_augmentation),
            train.micro_batch, train.checkpoint_activations, train.init_background,
            uses_bf16(train.precision, train.device), train.seed, train.autoencode,
            Neighbours.of(preprocessing, train.along) if train.task == "sequence" else None,
        )  # fmt: skip

    @property
    def periods(self) -> tuple[int, int]:
        """Of the penalty and of the encoder step."""
        return self.adversary.penalty.every, self.encoder.every

    def informed(self, volumes: PreparedVolumes, device: torch.device) -> "Synthesis":
        """The task with the neighbours of each training scan."""
        if self.neighbours is None:
            return self
        return replace(self, neighbours=self.neighbours.among(volumes.cases))

    @property
    def densities(self) -> Densities:
        """None."""
        return {}

    def start(self, device: torch.device) -> TrainingState:
        """Networks with fresh weights, which are a function of the seed, and their optimizers."""
        torch.manual_seed(self.seed)
        grid, known = self.preprocessing, width(self.preprocessing.conditions)
        networks = synthesis_networks(grid, self.model, channels(grid.labels), known)
        if self.init_background:
            networks.generator.init_background(len(grid.channels))
        pair = None
        if grid.labels or self.neighbours:
            pair = pair_discriminator(grid, self.model, bool(self.neighbours))
        trained = [networks.generator, networks.encoder]
        return TrainingState.fresh(networks, trained, pair, self.seed, device, self.bf16)

    def example(self, count: int, device: torch.device) -> Batch:
        """A batch with random images and label channels; all scans are labelled."""
        grid, images = self.preprocessing, len(self.preprocessing.channels)
        shape = (count, images + channels(grid.labels), *grid.shape)
        volume, labels = split_channels(torch.rand(shape, device=device) * 2 - 1, images)
        batch = Batch(
            {
                "volume": volume,
                "labels": labels,
                "labelled": torch.ones(count, dtype=torch.bool, device=device),
                "condition": torch.zeros(count, width(grid.conditions), device=device),
            }
        )
        return batch if self.neighbours is None else self.neighbours.example(batch)

    def arrays(
        self, volumes: PreparedVolumes, number: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """A neighbour in time; otherwise nothing: scans are learned as they are."""
        return {} if self.neighbours is None else self.neighbours.arrays(volumes, number, rng)

    def discriminator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Shows real and generated volumes to the discriminators and moves them once.

        Every so many steps adds the gradient penalty.
        """
        penalise = self.schedule.step_is_due(state, self.adversary.penalty.every)
        whole = self._with_latents(state, batch)
        scalars: Scalars = {}
        # A second derivative keeps what is computed again: checkpoints would only cost time here.
        checkpoint_activations(state.discriminators(), False)
        state.discriminator_optimizer.zero_grad(set_to_none=True)
        for encoded in whole.split(self.micro_batch):
            part = with_captions(state, encoded)
            with torch.no_grad(), state.autocast():
                fake = fakes(state, part)
            loss = torch.zeros((), device=state.device)
            for judged in self._judgements(state, part, fake.float(), whole):
                loss = loss + self.adversary.discriminator_loss(state, judged, penalise, scalars)
            descend(state.ranks, loss)
        rate = self.schedule.rate(state, self.adversarial_from)
        move(state.ranks, state.discriminator_optimizer, rate)
        return scalars

    def generator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Moves the generator, and every so many steps the encoder with it.

        The generator learns realism against the discriminators as they are; with the encoder a
        latent that can be read back from what is generated, and to restore a corrupted volume.
        Before the discriminators take part, both are an autoencoder.
        """
        with torch.no_grad():
            whole = with_captions(state, self._with_latents(state, batch))
        if not adversarial(self, state):
            return autoencoder_step(state, whole, self.micro_batch, self.schedule.rate(state))
        encode = self.schedule.step_is_due(state, self.encoder.every)
        scalars: Scalars = {}
        discriminators = state.discriminators()
        networks = [state.networks.generator, state.networks.encoder, *discriminators]
        checkpoint_activations(networks, self.checkpoint_activations)
        state.generator_optimizer.zero_grad(set_to_none=True)
        with frozen(*discriminators):
            for part in whole.split(self.micro_batch):
                descend(state.ranks, self._realism_loss(state, part, whole, encode, scalars))
        if encode:  # apart, so that its activations and those of the fakes never meet in memory
            volume = another_view(state, batch.volume, self.encoder.augmentation)
            drawn = draw_corruption(volume, state.randomness)
            corrupted = corrupt(volume, drawn, state.ranks.taken(volume, drawn.donor))
            # Every second scan's conditions, nothing of the others: scores reconstruct without any.
            number = torch.arange(len(whole) * state.ranks.size, device=volume.device)
            known = whole.condition * state.ranks.own(number % 2)[:, None]
            whole = whole.having(volume=volume, condition=known, corrupted=corrupted)
            for part in whole.split(self.micro_batch):
                share = state.share(part, whole)
                descend(state.ranks, self._restoration_loss(state, part, share, scalars))
        rate = self.schedule.rate(state, self.adversarial_from)
        move(state.ranks, state.generator_optimizer, rate, ADVERSARIAL_BETAS)
        return scalars

    def evaluator(
        self, state: TrainingState, validation: PreparedVolumes, training: PreparedVolumes
    ) -> Evaluator:
        """Pictures and metrics of the averaged networks, on fixed latents and validation scans."""
        reference = make_reference(state, validation, training, self.seed)
        adaptation = None
        if self.adversary.augmentation.probability == "adaptive":
            adaptation = Adaptation(
                self.schedule.evaluate_every, self.schedule.batch // state.ranks.size
            )
        return partial(
            evaluate_samples, reference=reference, adaptation=adaptation,
            batch=self.schedule.batch // state.ranks.size, micro_batch=self.micro_batch,
        )  # fmt: skip

    def _with_latents(self, state: TrainingState, batch: Batch) -> Batch:
        """The batch with some of its conditions made unknown, and as many latents and noises.

        Where left and right count as alike and nothing is labelled, half of the scans are mirrored:
        twice as many to learn from.
        """
        if sides_alike(self.preprocessing) and not self.preprocessing.labels:
            batch = half_mirrored(state, batch)
        latents = draw_latents(state, len(batch))
        columns = widths(self.preprocessing.conditions)
        known = drop_conditions(state, batch.condition, columns)
        batch = batch.having(condition=known, latent=latents, **draw_noise(state, len(batch)))
        return batch if self.neighbours is None else self.neighbours.timed(batch)

    def _judgements(
        self, state: TrainingState, part: Batch, fake: Tensor, whole: Batch
    ) -> Iterator[Judgement]:
        """The image alone for all scans; with its labels, or a neighbour, for those that have one.

        A real volume and the generated one paired with it come with the same condition.
        """
        images, ranks, share = part.volume.shape[1], state.ranks, state.share(part, whole)
        applied = self.adversary.augmentation.applied
        yield Judgement(
            "critic", state.networks.critic, applied(part.volume, images, state),
            applied(image_channels(fake, images), images, state), part.condition, share, part.wrong,
            ranks.weighted(share, part.wrong[1].sum()) if part.wrong else 0.0,
        )  # fmt: skip
        if state.pair_discriminator is None:
            return
        chosen, real, condition, images = pairs(part)
        all_chosen = ranks.total(pairs(whole).chosen.sum())
        if not bool(all_chosen):
            return
        # What follows is drawn and added up by all processes, those without any pair as well.
        share = chosen.sum() / all_chosen
        real, fake = (applied(both, images, state, chosen) for both in (real, fake))
        way = self.adversary.ways(state, len(part))
        wrong, wrong_share = None, 0.0
        if part.wrong:
            wrong = part.wrong[0][chosen], part.wrong[1][chosen]
            wrong_share = ranks.weighted(share, wrong[1].sum())
        if bool(chosen.any()):
            yield Judgement(
                "pair", state.pair_discriminator, real, fake, condition[chosen], share, wrong,
                wrong_share, None if way is None else way[chosen],
            )  # fmt: skip

    def _realism_loss(
        self, state: TrainingState, part: Batch, whole: Batch, encode: bool, scalars: Scalars
    ) -> Tensor:
        """Objective of the generator on a part of a batch and, to `encode`, the latent loss."""
        networks, latent, share = state.networks, part["latent"], state.share(part, whole)
        loss = torch.zeros((), device=state.device)
        with state.autocast():
            fake = fakes(state, part)
            images = part.volume.shape[1]
            clipped = clipped_share(image_channels(fake, images).detach(), part.volume)
            add(scalars, "generator/clipped", share * clipped)
            for judged in self._judgements(state, part, fake, whole):
                loss = loss + self.adversary.generator_loss(judged, scalars)
            if encode:
                recovered = networks.encoder(image_channels(fake, images)).float()
                read_back = share * latent_loss(latent, recovered)
                loss = loss + LATENT_WEIGHT * read_back
                add(scalars, "generator/latent", read_back)
        return loss

    def _restoration_loss(
        self, state: TrainingState, part: Batch, share: float, scalars: Scalars
    ) -> Tensor:
        """The reconstruction loss of some volumes, restored from corrupted ones."""
        networks = state.networks
        with state.autocast():
            latent = networks.encoder(part["corrupted"])
            generated = networks.generator(latent, part.condition)
            recon = image_channels(generated, part.volume.shape[1])
            restored = share * reconstruction_loss(part.volume, recon.float())
        add(scalars, "generator/reconstruction", restored)
        return RECONSTRUCTION_WEIGHT * restored
