"""Restoration: a restorer makes a corrupted scan healthy again."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan.core.config import ModelConfig, Preprocessing, TrainConfig
from medgan.data.batches import Batch, PreparedVolumes
from medgan.data.conditions import width
from medgan.data.lesions import FAMILIES
from medgan.model.folder import restoring_networks
from medgan.networks.augmentation import corrupt, draw_corruption
from medgan.networks.gan import checkpoint_activations, frozen
from medgan.networks.losses import reconstruction_loss
from medgan.networks.metrics import band_features, clipped_share, diversity, kernel_distance
from medgan.reporting.sample_grid import restoration_grid
from medgan.training.adversary import Adversary, Judgement, Scalars, add
from medgan.training.corruption import augmented, lesioned
from medgan.training.samples import GRID, Adaptation, distance_metrics, warn_of_low_diversity
from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState
from medgan.training.steps import descend, move
from medgan.training.tasks.task import Evaluator

RECONSTRUCTION_WEIGHT = 100.0
"""Weight of the reconstruction loss beside the adversarial one (Isola et al. 2017, arXiv
1611.07004, section 3.3)."""
_CHANGED = 0.02
"""Smallest change of a voxel, in units of [-1, 1], that counts as corrupted."""
PATCHED = 0.5
"""Share of scans that also get foreign, noisy, masked or blurred patches."""


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
    """

    preprocessing: Preprocessing
    model: ModelConfig
    schedule: Schedule
    adversary: Adversary
    micro_batch: int
    checkpoint_activations: bool
    bf16: bool
    seed: int

    @classmethod
    def of(
        cls, preprocessing: Preprocessing, model: ModelConfig, train: TrainConfig
    ) -> "Restoration":
        """The task of a configuration."""
        return cls(
            preprocessing, model, Schedule.of(train), Adversary.of(train), train.micro_batch,
            train.checkpoint_activations, train.precision == "bf16", train.seed,
        )  # fmt: skip

    def start(self, device: torch.device) -> TrainingState:
        """Networks with fresh weights, which are a function of the seed, and their optimizers."""
        torch.manual_seed(self.seed)
        networks = restoring_networks(self.preprocessing, self.model)
        restorer = networks.needed_restorer
        return TrainingState.fresh(networks, [restorer], None, self.seed, device, self.bf16)

    def example(self, count: int, device: torch.device) -> Batch:
        """A batch with random images."""
        grid = self.preprocessing
        shape = (count, len(grid.channels), *grid.shape)
        return Batch(
            {
                "volume": torch.rand(shape, device=device) * 2 - 1,
                "corrupted": torch.rand(shape, device=device) * 2 - 1,
                "condition": torch.zeros(count, width(grid.conditions), device=device),
            }
        )

    def arrays(
        self, volumes: PreparedVolumes, numbers: list[int], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Augmented scans as `volume`, and the same scans with lesions as `corrupted`."""
        healthy, corrupted = [], []
        for number in numbers:
            volume = augmented(volumes.arrays(number)[0], rng)
            donor = volumes.arrays(int(rng.integers(len(volumes))))[0]
            healthy.append(volume)
            corrupted.append(lesioned(volume, donor, list(FAMILIES), rng)[0])
        return {"volume": np.stack(healthy), "corrupted": np.stack(corrupted)}

    def discriminator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Shows healthy and restored volumes to the discriminator and moves it once."""
        penalise = self.schedule.step_is_due(state, self.adversary.penalty.every)
        whole, scalars = self._patched(state, batch), {}
        checkpoint_activations(state.discriminators(), False)
        state.discriminator_optimizer.zero_grad(set_to_none=True)
        for part in whole.split(self.micro_batch):
            with torch.no_grad(), state.autocast():
                restored = state.networks.needed_restorer(part["corrupted"])
            judged = self._judgement(state, part, restored.float(), len(whole))
            descend(self.adversary.discriminator_loss(state, judged, penalise, scalars))
        move(state.discriminator_optimizer, self.schedule.rate(state))
        state.volumes_seen += len(batch)
        return scalars

    def generator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Moves the restorer, by the healthy scan and against the discriminator as it is."""
        whole, scalars = self._patched(state, batch), {}
        restorer, discriminators = state.networks.needed_restorer, state.discriminators()
        checkpoint_activations([restorer, *discriminators], self.checkpoint_activations)
        state.generator_optimizer.zero_grad(set_to_none=True)
        with frozen(*discriminators):
            for part in whole.split(self.micro_batch):
                share = len(part) / len(whole)
                with state.autocast():
                    restored = restorer(part["corrupted"])
                    judged = self._judgement(state, part, restored, len(whole))
                    realism = self.adversary.generator_loss(judged, scalars)
                    error = share * reconstruction_loss(part.volume, restored.float())
                    inside = share * _error_inside(part, restored.float())
                clipped = clipped_share(restored.detach(), part.volume)
                add(scalars, "generator/clipped", share * clipped)
                add(scalars, "generator/reconstruction", error)
                add(scalars, "generator/restoration", inside)
                descend(realism + RECONSTRUCTION_WEIGHT * (error + inside))
        move(state.generator_optimizer, self.schedule.rate(state))
        return scalars

    def evaluator(
        self, state: TrainingState, validation: PreparedVolumes, training: PreparedVolumes
    ) -> Evaluator:
        """Errors of the averaged restorer on corrupted and on healthy validation scans."""
        rng = np.random.default_rng([self.seed, 1])
        scans = [validation.arrays(number)[0] for number in range(len(validation))]
        made = [
            lesioned(scan, scans[number - 1], list(FAMILIES), rng)
            for number, scan in enumerate(scans)
        ]
        healthy = torch.from_numpy(np.stack(scans))
        count = min(len(training), len(scans))
        seen = torch.from_numpy(np.stack([training.arrays(n)[0] for n in range(count)]))
        features = band_features(healthy), band_features(seen)
        reference = _Reference(
            healthy, torch.from_numpy(np.stack([scan for scan, _ in made])),
            torch.from_numpy(np.stack([mask for _, mask in made])) > 0, seen,
            float(kernel_distance(*features)), float(diversity(healthy)),
        )  # fmt: skip
        adaptation = None
        if self.adversary.augmentation.probability == "adaptive":
            adaptation = Adaptation(self.schedule.evaluate_every, self.schedule.batch)
        return partial(
            _evaluate, reference=reference, adaptation=adaptation,
            batch=self.micro_batch or self.schedule.batch,
        )  # fmt: skip

    def _patched(self, state: TrainingState, batch: Batch) -> Batch:
        """The batch with patches in a part of its corrupted scans."""
        corrupted = batch["corrupted"]
        patched = corrupt(corrupted, draw_corruption(corrupted, state.random))
        chosen = torch.rand(len(batch), generator=state.random) < PATCHED
        chosen = chosen.to(state.device)[:, None, None, None, None]
        return batch.having(corrupted=torch.where(chosen, patched, corrupted))

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


def _error_inside(part: Batch, restored: Tensor) -> Tensor:
    """Mean absolute error where a scan was corrupted.

    Lesions fill about a hundredth of a volume, so that in the error of the whole volume they hardly
    count.
    """
    changed = (part["corrupted"] - part.volume).abs() > _CHANGED
    return ((restored - part.volume).abs() * changed).sum() / changed.sum().clamp(min=1)


@dataclass(frozen=True)
class _Reference:
    """Validation scans, healthy and corrupted, where they differ, and as many training scans."""

    healthy: Tensor
    corrupted: Tensor
    lesion: Tensor
    training: Tensor
    floor: float
    diversity: float


@torch.no_grad()
def _evaluate(
    state: TrainingState,
    path: Path,
    reference: _Reference,
    adaptation: Adaptation | None,
    batch: int,
) -> dict[str, float]:
    """Metrics and a picture of the averaged restorer."""
    restorer = state.average.needed_restorer

    def restore(volumes: Tensor) -> Tensor:
        parts = volumes.split(batch)
        with state.autocast():
            return torch.cat([restorer(part.to(state.device)).float().cpu() for part in parts])

    restored, kept = restore(reference.corrupted), restore(reference.healthy)
    error = (restored - reference.healthy).abs()
    before = (reference.corrupted - reference.healthy).abs()
    lesion = reference.lesion.expand_as(error)
    metrics = {
        "samples/restoration": float(error.mean()),
        "samples/restoration_lesion": float(error[lesion].mean()),
        "samples/corruption": float(before.mean()),
        "samples/corruption_lesion": float(before[lesion].mean()),
        "samples/reconstruction": float((kept - reference.healthy).abs().mean()),
        "samples/clipped": float(clipped_share(restored, reference.healthy)),
    }
    metrics |= distance_metrics(restored, reference.healthy, reference.floor, reference.diversity)
    if adaptation is not None:
        state.augment = adaptation.adapted(state, reference.training, reference.healthy, restored)
        metrics["train/augment"] = state.augment
    warn_of_low_diversity(metrics["samples/diversity"], state.volumes_seen)
    shown = (v[:GRID, 0].numpy() for v in (reference.corrupted, restored, reference.healthy))
    restoration_grid(path, *shown, title=f"{state.volumes_seen:,} volumes seen")
    return metrics
