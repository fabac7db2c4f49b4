"""Harmonisation: a translator gives scans of one site the style of another, without pairs."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.context import Densities
from medgan.core.config import Config, ModelConfig, Preprocessing
from medgan.core.conversion import Conversion
from medgan.core.errors import DataError
from medgan.data.batches import Batch, PreparedVolumes
from medgan.data.pairs import pairing_of
from medgan.data.pairs.pair import Pairing
from medgan.data.patches import patch_about, random_patch
from medgan.model.fresh_networks import translating_networks
from medgan.networks.contrast import ProjectionHeads, contrastive_loss, draw_places
from medgan.networks.device import uses_bf16
from medgan.networks.metrics import clipped_share
from medgan.training.adversary import Adversary, Judgement, Scalars, add
from medgan.training.harmonised import evaluate_harmonisation, make_reference
from medgan.training.schedule import Schedule
from medgan.training.state import ADVERSARIAL_BETAS, TrainingState
from medgan.training.tasks.single import discriminator_move, network_move
from medgan.training.tasks.task import Evaluator

TEMPERATURE = 0.07
PLACES, SIZE = 256, 64
"""Most places of a stage that are told apart, and the length of their vectors."""
CONTRAST_WEIGHT = 1.0
"""Of the contrast beside the adversarial loss, the mean of that of scans that are changed and of
scans that have the style already (Park et al. 2020, arXiv 2007.15651, eq. 4)."""
EVALUATED, MOST_EVALUATED = 3, 16
"""Edge of what is evaluated, in edges of a patch, and most scans of a site. Single patches of 16
voxels at random places differ so much that no site could be told from another."""


@dataclass(frozen=True)
class Harmonisation:
    """A translator against one discriminator, which sees one image at a time.

    What the translator makes of a scan should look like the wanted site to the discriminator, and
    each place should be found again among all places of the scan by features of the translator's
    own trunk. A scan of the wanted site should stay as it is, by the same measure.

    Attributes:
        preprocessing: grid and channels.
        model: sizes of the networks.
        conversion: what is made of what.
        pairing: makes what is given of a patch.
        schedule: length, learning rate and weight average.
        adversary: objective, penalty and augmentation.
        micro_batch: patches whose activations are in memory at a time; 0 is the whole batch.
        checkpoint_activations: whether the translator's step computes activations twice.
        bf16: whether networks run under autocast.
        seed: of weights and patches.
        adversarial_from: 0, the discriminator takes part throughout.

    Reference: Park et al. 2020, arXiv 2007.15651 (contrastive unpaired translation), in 3D.
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
    adversarial_from: float = 0.0

    @classmethod
    def of(cls, preprocessing: Preprocessing, config: Config) -> "Harmonisation":
        """The task of a configuration."""
        train, channels = config.train, preprocessing.channels
        conversion = Conversion(train.task, channels, channels, noise=False)
        return cls(
            preprocessing, config.model, conversion, pairing_of(preprocessing, conversion),
            Schedule.of(train), Adversary.of(train), train.micro_batch,
            train.checkpoint_activations, uses_bf16(train.precision, train.device), train.seed,
        )  # fmt: skip

    @property
    def periods(self) -> tuple[int, int]:
        """Of the penalty; steps of the translator are all alike."""
        return self.adversary.penalty.every, 1

    @property
    def densities(self) -> Densities:
        """None."""
        return {}

    def informed(self, volumes: PreparedVolumes, device: torch.device) -> "Harmonisation":
        """The same, once there are scans of both sites.

        Raises:
            DataError: E_SPLIT.
        """
        self._numbers(volumes)
        return self

    def start(self, device: torch.device) -> TrainingState:
        """Networks with fresh weights, which are a function of the seed, and their optimizers."""
        torch.manual_seed(self.seed)
        networks = translating_networks(self.preprocessing, self.model, self.conversion)
        heads = ProjectionHeads(self.model.widths, SIZE)
        trained = [networks.needed_translator, heads]
        return TrainingState.fresh(
            networks, trained, None, self.seed, device, self.bf16, ADVERSARIAL_BETAS, heads
        )

    def example(self, count: int, device: torch.device) -> Batch:
        """A batch with random images."""
        size = (count, self.pairing.target_channels, *self.preprocessing.shape)
        return Batch(
            {
                "volume": torch.rand(size, device=device) * 2 - 1,
                "source": torch.rand(size, device=device) * 2 - 1,
                "condition": torch.zeros(count, 0, device=device),
            }
        )

    def arrays(
        self, volumes: PreparedVolumes, number: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """A patch of each site, of scans at random: the wanted one's as `volume`."""
        given, wanted = self._numbers(volumes)
        return {
            "volume": self._patch(volumes, int(rng.choice(wanted)), rng),
            "source": self._patch(volumes, int(rng.choice(given)), rng),
            "condition": np.zeros(0, np.float32),
        }

    def _numbers(self, volumes: PreparedVolumes) -> tuple[list[int], list[int]]:
        """Numbers of the scans that are changed, and of those in the style that is wanted."""
        sites = [[n for n, c in enumerate(volumes.cases) if c.wanted == w] for w in (False, True)]
        if min(map(len, sites)) < 2:
            raise DataError(
                "E_SPLIT", "training and validation scans",
                f"{len(sites[0])} of data.source and {len(sites[1])} of translate.target_data; 2 "
                "of each are needed in either split", "add scans or set data.fractions",
            )  # fmt: skip
        return sites[0], sites[1]

    def _patch(self, volumes: PreparedVolumes, number: int, rng: np.random.Generator) -> np.ndarray:
        """A random patch of a scan."""
        patch = random_patch(*volumes.arrays(number), self.preprocessing.shape, rng)
        return self.pairing(*patch, rng).source

    def discriminator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Shows scans of the wanted site and changed scans to the discriminator, moves it once."""
        translator = state.networks.needed_translator

        def judged(part: Batch) -> Judgement:
            with torch.no_grad(), state.autocast():
                changed = translator(part["source"])
            return self._judgement(state, part, changed, len(batch) * state.ranks.size)

        parts = list(batch.split(self.micro_batch))
        return discriminator_move(state, parts, judged, self.adversary, self.schedule)

    def generator_step(self, state: TrainingState, batch: Batch) -> Scalars:
        """Moves translator and projections against the discriminator as it is."""
        count = len(batch) * state.ranks.size
        return network_move(
            state, list(batch.split(self.micro_batch)), state.networks.needed_translator,
            lambda part, scalars: self._loss(state, part, count, scalars), self.schedule,
            self.checkpoint_activations,
        )  # fmt: skip

    def evaluator(
        self, state: TrainingState, validation: PreparedVolumes, training: PreparedVolumes
    ) -> Evaluator:
        """Distance of changed validation scans from those of the wanted site."""
        given, wanted = self._centres(validation)
        _, seen = self._centres(training)
        return partial(
            evaluate_harmonisation, reference=make_reference(given, wanted, seen),
            batch=self.micro_batch or self.schedule.batch // state.ranks.size,
        )  # fmt: skip

    def _centres(self, volumes: PreparedVolumes) -> tuple[Tensor, Tensor]:
        """The middle of some scans of each site, as many of both."""
        x, y, z = (EVALUATED * size for size in self.preprocessing.shape)
        sites = self._numbers(volumes)
        count = min(MOST_EVALUATED, *map(len, sites))
        cut = [
            [self._centre(volumes.arrays(number)[0], (x, y, z)) for number in numbers[:count]]
            for numbers in sites
        ]
        given, wanted = (torch.from_numpy(np.stack(part)) for part in cut)
        return given, wanted

    def _centre(self, volume: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        middle = np.array(volume.shape[1:]) // 2
        return self.pairing.source(patch_about(volume, None, middle, shape)[0])

    def _loss(self, state: TrainingState, part: Batch, count: int, scalars: Scalars) -> Tensor:
        """What the translator minimises on a part of a batch of `count` pairs in all."""
        share, translator = len(part) / count, state.networks.needed_translator
        source, wanted = part["source"], part.volume
        with state.autocast():
            changed, kept = translator(source), translator(wanted)
            judged = self._judgement(state, part, changed, count)
            loss = self.adversary.generator_loss(judged, scalars)
            contrast = share * self._contrast(state, source, changed)
            identity = share * self._contrast(state, wanted, kept)
        add(scalars, "generator/contrast", contrast)
        add(scalars, "generator/identity", identity)
        add(scalars, "generator/clipped", share * clipped_share(changed.detach(), wanted))
        return loss + CONTRAST_WEIGHT * (contrast + identity) / 2

    def _contrast(self, state: TrainingState, before: Tensor, after: Tensor) -> Tensor:
        """How badly places of changed patches are found again in the patches as they were."""
        trunk, heads = state.networks.needed_translator.unet.trunk, state.heads
        assert isinstance(heads, ProjectionHeads)
        features = trunk(after)
        places = draw_places(features, PLACES, state.random)
        with torch.no_grad():
            keys = heads(trunk(before), places)
        queries = heads(features, places)
        losses = [
            contrastive_loss(query, key, TEMPERATURE)
            for query, key in zip(queries, keys, strict=True)
        ]
        return torch.stack(losses).mean()

    def _judgement(
        self, state: TrainingState, part: Batch, changed: Tensor, count: int
    ) -> Judgement:
        """Patches of the wanted site and changed ones of the other."""
        images = self.pairing.target_channels

        def augmented(volume: Tensor) -> Tensor:
            return self.adversary.augmentation.applied(volume, images, state)

        return Judgement(
            "critic", state.networks.critic, augmented(part.volume), augmented(changed.float()),
            part.condition, len(part) / count,
        )  # fmt: skip
