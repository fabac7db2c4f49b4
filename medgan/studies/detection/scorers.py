"""Scorers of the lesion benchmark: the model's, simple ones and learned baselines."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from medgan.anomaly.context import ScoringContext
from medgan.anomaly.scorers import make_maps
from medgan.anomaly.simple import SIMPLE
from medgan.core.config import LocaliserConfig
from medgan.core.progress import counting
from medgan.core.seeding import seeded
from medgan.model.fresh_networks import fresh_localiser, synthesis_networks
from medgan.model.model import Model
from medgan.networks.gan import Networks
from medgan.networks.localiser import Localiser
from medgan.studies.baselines.detectors import Denoiser, PostHocEncoder, Untrained
from medgan.studies.baselines.training import Trainable, train_baseline
from medgan.training.localiser import FAMILIES, localiser_inputs, train_localiser

FOLDS = (
    ("brighter", "noise", "push", "foreign"),
    ("darker", "blur", "pull", "reflection"),
    ("missing", "fill", "shift"),
    ("bias", "ghost"),
)
"""Families left out together, so that four localisers are trained and not thirteen. Families of one
fold are unlike each other. Each family is harder to find than if it alone were left out."""
KIN = {"brighter": "bright shape", "darker": "dark shape"}
"""Families of training that are left out with one that is tested, as they are like it."""
BASELINE_VOLUMES = 6_000
"""Volumes that each learned baseline is trained on: some four minutes of a core on hippocampi, as
in the first tables of docs/explanation/detection.md."""
Mapper = Callable[[Tensor], Tensor]


class ModelMaps:
    """Score maps of the model with a given localiser.

    Scorers with one value a scan get maps that are constant.

    Args:
        model: to score with.
        localiser: used in place of its own; None keeps that.
        names: of the scorers.
    """

    def __init__(self, model: Model, localiser: Localiser | None, names: tuple[str, ...]) -> None:
        self._device, self._names = model.device, names
        self._networks = model.scoring_networks()
        if localiser is not None:
            self._networks = replace(
                self._networks, localise=localiser.located, inputs=localiser.inputs
            )

    @torch.inference_mode()
    def __call__(self, volumes: Tensor) -> dict[str, Tensor]:
        """Maps (B, 1, X, Y, Z) by scorer."""
        made = make_maps(self._context(volumes), self._names)
        return {name: score_map.expand(volumes.shape) for name, score_map in made.items()}

    @torch.inference_mode()
    def recon(self, volumes: Tensor) -> Tensor:
        """Healthy counterparts of volumes."""
        return self._context(volumes).counterpart.cpu()

    def _context(self, volumes: Tensor) -> ScoringContext:
        volumes = volumes.to(self._device, memory_format=torch.channels_last_3d)
        return ScoringContext(volumes, self._networks)


def train_left_out_localiser(
    model: Model,
    train: Tensor,
    left_out: Sequence[str],
    folder: Path,
    config: LocaliserConfig,
    seed: int,
) -> tuple[Localiser, int]:
    """Trains a localiser on all families of lesions but some.

    Args:
        model: whose reconstructions and densities the localiser sees.
        train: training volumes, (N, 1, X, Y, Z).
        left_out: families that it never sees.
        folder: receives its checkpoint.
        config: the localiser section.
        seed: of weights and lesions.

    Returns:
        The localiser, and how many scans or patches it saw.
    """
    with seeded(seed, model.device):
        localiser = fresh_localiser(
            model.preprocessing, model.sizes, localiser_inputs(model.scoring_networks())
        )
    localiser.to(model.device)
    without = {*left_out, *(kin for name, kin in KIN.items() if name in left_out)}
    families = [family for family in FAMILIES if family not in without]
    with counting(f"localiser without {', '.join(left_out)}") as tick:
        seen = train_localiser(
            model.scoring_networks(), model.sizes.latent, localiser, list(train.numpy()), families,
            config, seed, folder, tick,
        )  # fmt: skip
    return localiser.requires_grad_(False), seen


def baseline_scorers(
    model: Model, train: Tensor, seed: int, learned: bool
) -> dict[str, Callable[[], Mapper]]:
    """Scorers to compare with, by name; calling one trains it and returns its map function.

    Args:
        model: f-AnoGAN's encoder is trained for its generator.
        train: training volumes, (N, 1, X, Y, Z).
        seed: of all trainings.
        learned: whether networks are among them.
    """

    def simple(name: str) -> Callable[[], Mapper]:
        def build() -> Mapper:
            scorer = SIMPLE[name]()
            scorer.fit(train)
            return scorer.map

        return build

    def fresh() -> Networks:
        with seeded(seed, model.device):
            networks = synthesis_networks(model.preprocessing, model.sizes, 0, 0)
        networks.to(model.device)
        return networks

    def trained(scorer: Trainable, what: str) -> None:
        with counting(what) as tick:
            train_baseline(scorer, train, 0.0, BASELINE_VOLUMES, seed, tick)

    def untrained() -> Mapper:
        return Untrained(fresh()).map

    def denoiser() -> Mapper:
        made = Denoiser(seed, model.device)
        trained(made, "denoiser")
        return made.map

    def f_anogan() -> Mapper:
        made = PostHocEncoder(model.networks, fresh().encoder)
        trained(made, "encoder of f-AnoGAN")
        return made.map

    def on_device(build: Callable[[], Mapper]) -> Callable[[], Mapper]:
        def built() -> Mapper:
            mapper = build()
            return lambda volumes: mapper(volumes.to(model.device)).cpu()

        return built

    found = {name: simple(name) for name in SIMPLE}
    if not learned:
        return found
    found |= {"untrained": on_device(untrained), "denoiser": on_device(denoiser)}
    if model.networks.synthesises and model.networks.discriminator is not None:
        found["f_anogan"] = on_device(f_anogan)
    return found
