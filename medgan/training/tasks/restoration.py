"""Restoration: a restorer makes a corrupted scan healthy again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.context import (
    LOCAL,
    Densities,
    ScoringContext,
    ScoringNetworks,
    input_channels,
    local_density,
    network_input,
)
from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.healthy import Healthy, healthy_of
from medgan.anomaly.statistics import MapStatistics
from medgan.core.config import ModelConfig, Preprocessing, TrainConfig
from medgan.data.batches import Batch, PreparedVolumes
from medgan.data.conditions import width
from medgan.data.lesions import FAMILIES
from medgan.model.fresh_networks import restorer_inputs, restoring_networks
from medgan.networks.device import uses_bf16
from medgan.networks.losses import localisation_loss, reconstruction_loss
from medgan.networks.metrics import clipped_share
from medgan.training.adversary import Adversary, Judgement, Scalars, add
from medgan.training.corruption import ALIGNED, augmented, lesioned
from medgan.training.lesioned import HealthyScans
from medgan.training.restored import evaluate_restoration, make_reference
from medgan.training.samples import Adaptation
from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState
from medgan.training.tasks.single import discriminator_move, network_move
from medgan.training.tasks.task import Evaluator, adversarial

RECONSTRUCTION_WEIGHT = 100.0
"""Weight of the reconstruction losses beside the adversarial one (Isola et al. 2017, arXiv
1611.07004, section 3.3)."""
LOCALISATION_WEIGHT = 0.3
"""Weight of the localisation loss beside the reconstruction losses."""
ADVERSARIAL_FROM = 0.85
"""Share of the training after which the discriminator takes part. It makes steps 2.8 times as long,
and on hippocampi it never told restored scans from healthy ones (docs/explanation/restoration.md).
"""
BETAS = (0.9, 0.99)
"""Adam's, of the restorer: most of its loss does not change as it learns."""
_CHANGED = 0.02
"""Smallest change of a voxel, in units of [-1, 1], that counts as a lesion."""


class Images(Sequence[np.ndarray]):
    """The images of prepared scans, read anew each time."""

    def __init__(self, volumes: PreparedVolumes) -> None:
        self._volumes = volumes

    def __len__(self) -> int:
        return len(self._volumes)

    def __getitem__(self, number: int) -> np.ndarray:  # pyright: ignore
        return self._volumes.arrays(number)[0]


@dataclass(frozen=True)
class Restoration:
    """A restorer against one discriminator of images.

    Attributes:
        preprocessing: grid and channels.
        model: sizes of the networks.
        schedule: length, learning rate and weight average.
        adversary: objective, penalty and augmentation.
        micro_batch: volumes whose activations are in memory at a time; 0 is the whole batch.
        checkpoint_activations: whether the restorer's step computes activations twice.
        bf16: whether networks run under autocast.
        seed: of weights and corruptions.
        density: of the training scans' local features; None before it is estimated, when all
            voxels count as usual.
        scans: the training scans, with what is usual in each; None before they are known.
    """

    preprocessing: Preprocessing
    model: ModelConfig
    schedule: Schedule
    adversary: Adversary
    micro_batch: int
    checkpoint_activations: bool
    bf16: bool
    seed: int
    density: FeatureDensity | None = None
    scans: HealthyScans | None = None

    @classmethod
    def of(
        cls, preprocessing: Preprocessing, model: ModelConfig, train: TrainConfig
    ) -> "Restoration":
        """The task of a configuration."""
        return cls(
            preprocessing, model, Schedule.of(train), Adversary.of(train), train.micro_batch,
            train.checkpoint_activations, uses_bf16(train.precision, train.device), train.seed,
        )  # fmt: skip

    @property
    def adversarial_from(self) -> float:
        """For its last part the discriminator joins."""
        return ADVERSARIAL_FROM

    @property
    def periods(self) -> tuple[int, int]:
        """Of the penalty; steps of the restorer are all alike."""
        return self.adversary.penalty.every, 1

    def informed(self, volumes: PreparedVolumes, device: torch.device) -> "Restoration":
        """The task with the training scans, and what is usual in them."""
        scans = HealthyScans(Images(volumes), healthy_of(self.preprocessing, device))
        return replace(self, density=local_density(volumes.batches).to(device), scans=scans)

    @property
    def healthy(self) -> Healthy | None:
        """What is usual at each voxel of aligned scans; None where they are not aligned."""
        return None if self.scans is None else self.scans.healthy

    @property
    def densities(self) -> Densities:
        """That density."""
        return {} if self.density is None else {LOCAL: self.density}

    def start(self, device: torch.device) -> TrainingState:
        """Networks with fresh weights, which are a function of the seed, and their optimizers."""
        torch.manual_seed(self.seed)
        networks = restoring_networks(self.preprocessing, self.model)
        restorer = networks.needed_restorer
        return TrainingState.fresh(networks, [restorer], None, self.seed, device, self.bf16, BETAS)

    def example(self, count: int, device: torch.device) -> Batch:
        """A batch with random images."""
        grid = self.preprocessing
        images = len(grid.channels)
        shape = (count, images, *grid.shape)
        usual = 2 * images if grid.align == "deformable" else 0
        return Batch(
            {
                "volume": torch.rand(shape, device=device) * 2 - 1,
                "corrupted": torch.rand(shape, device=device) * 2 - 1,
                "usual": torch.zeros(count, usual, *grid.shape, device=device),
                "condition": torch.zeros(count, width(grid.conditions), device=device),
            }
        )

    def arrays(
        self, volumes: PreparedVolumes, number: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The augmented scan as `volume`, and the same scan with lesions as `corrupted`.

        `usual` is the mean and the spread of the template that was bent to it, or empty.
        """
        scans = self.scans
        assert scans is not None
        extent, images = 1.0 if self.healthy is None else ALIGNED, len(self.preprocessing.channels)
        shown = augmented(scans.with_usual(number), rng, extent, images)
        donor = scans.volumes[int(rng.integers(len(scans.volumes)))]
        corrupted, _ = lesioned(shown[:images], donor, list(FAMILIES), rng)
        return {"volume": shown[:images], "corrupted": corrupted, "usual": shown[images:]}

    def _seen(self, volumes: Tensor, usual: Tensor | None = None) -> Tensor:
        """Volumes and further inputs, as the restorer takes them."""
        inputs = restorer_inputs(self.preprocessing)
        if self.density is None:
            images = volumes.shape[1]
            further = volumes.new_zeros(
                len(volumes), input_channels(inputs, images) - images, *volumes.shape[2:]
            )
            return torch.cat([volumes, further], dim=1)
        known = None
        if usual is not None and usual.shape[1]:
            known = MapStatistics(*usual.chunk(2, dim=1))
        networks = ScoringNetworks(None, None, None, self.densities, healthy=self.healthy)
        return network_input(ScoringContext(volumes, networks, known), inputs)

    def discriminator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Shows healthy and restored volumes to the discriminator and moves it once."""
        restorer = state.networks.needed_restorer

        def judged(part: Batch) -> Judgement:
            with torch.no_grad(), state.autocast():
                restored = restorer(self._seen(part["corrupted"], part["usual"]))
            return self._judgement(state, part, restored, len(batch) * state.ranks.size)

        parts = list(batch.split(self.micro_batch))
        return discriminator_move(state, parts, judged, self.adversary, self.schedule)

    def generator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Moves the restorer, by the healthy scan and, late, against the discriminator as it is."""
        count = len(batch) * state.ranks.size
        return network_move(
            state, list(batch.split(self.micro_batch)), state.networks.needed_restorer,
            lambda part, scalars: self._restorer_loss(state, part, count, scalars),
            self.schedule, self.checkpoint_activations,
        )  # fmt: skip

    def evaluator(
        self, state: TrainingState, validation: PreparedVolumes, training: PreparedVolumes
    ) -> Evaluator:
        """Errors of the averaged restorer on corrupted and on healthy validation scans."""
        reference = make_reference(validation, training, self.seed)
        adaptation = None
        if self.adversary.augmentation.probability == "adaptive":
            adaptation = Adaptation(
                self.schedule.evaluate_every, self.schedule.batch // state.ranks.size
            )
        return partial(
            evaluate_restoration, seen=self._seen, reference=reference, adaptation=adaptation,
            batch=self.micro_batch or self.schedule.batch // state.ranks.size,
        )  # fmt: skip

    def _restorer_loss(
        self, state: TrainingState, part: Batch, count: int, scalars: Scalars
    ) -> Tensor:
        """What the restorer minimises on a part of a batch of `count` scans in all."""
        share, corrupted, ranks = len(part) / count, part["corrupted"], state.ranks
        seen = self._seen(corrupted, part["usual"])
        with state.autocast():
            found = state.networks.needed_restorer.parts(seen)
            restored = found.into(corrupted)
        changed = ((corrupted - part.volume).abs() > _CHANGED).any(dim=1, keepdim=True).float()
        localised = localisation_loss(
            found.lesion, changed, summed=lambda own: ranks.summed(own, 1 / ranks.size)
        )
        inside = ranks.weighted(share, changed.sum())
        losses = {
            "generator/reconstruction": share * reconstruction_loss(part.volume, restored),
            "generator/healthy": share * reconstruction_loss(part.volume, found.healthy),
            "generator/lesion": inside * _error_inside(changed, part.volume, restored),
            "generator/tissue": inside * _error_inside(changed, part.volume, found.healthy),
            "generator/localisation": LOCALISATION_WEIGHT * share * localised,
        }
        add(scalars, "generator/clipped", share * clipped_share(restored.detach(), part.volume))
        for name, loss in losses.items():
            add(scalars, name, loss)
        total = RECONSTRUCTION_WEIGHT * torch.stack(list(losses.values())).sum()
        if not adversarial(self, state):
            return total
        with state.autocast():
            judged = self._judgement(state, part, restored, count)
            return total + self.adversary.generator_loss(judged, scalars)

    def _judgement(
        self, state: TrainingState, part: Batch, restored: Tensor, count: int
    ) -> Judgement:
        """Healthy scans against restored ones."""
        real, fake = (
            self.adversary.augmentation.applied(v, v.shape[1], state)
            for v in (part.volume, restored)
        )
        share = len(part) / count
        return Judgement("critic", state.networks.critic, real, fake, part.condition, share)


def _error_inside(changed: Tensor, volume: Tensor, healthy: Tensor) -> Tensor:
    """Mean absolute error where a scan has lesions.

    They fill about a hundredth of a volume, so that in the error of the whole they hardly count.
    """
    error = (healthy - volume).abs() * changed
    return error.sum() / (changed.sum() * volume.shape[1]).clamp(min=1)
