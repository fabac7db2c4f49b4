"""The score map of a prepared scan, by medgan and by other methods."""

from collections.abc import Callable

import torch
from torch import Tensor

from medgan.anomaly.calibration import ScoringConfig, calibrate
from medgan.anomaly.context import ScoringContext
from medgan.anomaly.scorers import make_maps
from medgan.core.config import Config, Preprocessing
from medgan.core.seeding import seeded
from medgan.data.batches import PreparedVolumes
from medgan.data.codebook import channels
from medgan.model.fresh_networks import fresh_localiser, synthesis_networks
from medgan.model.model import Model
from medgan.studies.baselines.detectors import PostHocEncoder
from medgan.studies.baselines.patchcore import MEMORY, SIZE, PatchCore
from medgan.studies.speed.turns import Contender, Work
from medgan.training.localiser import localiser_inputs

SCANS = 4
"""Scans that are scored in a turn, one at a time; one by PatchCore, which takes long."""
_NAME = "localiser"
_ANOMALIB = "anomalib (Apache-2.0)"


def scoring(
    config: Config, volumes: PreparedVolumes, preprocessing: Preprocessing, device: torch.device
) -> list[Contender]:
    """Map and score of scans that are read and prepared; no file is written.

    All networks have random weights, which take as long as trained ones.

    Args:
        config: model section, and the seed.
        volumes: prepared scans, at least five.
        preprocessing: their grid.
        device: where to score.
    """
    seed = config.train.seed
    images = torch.stack([volumes[number][0] for number in range(len(volumes))])
    shown = [one.to(device) for one in images[:SCANS].split(1)]

    def work(score: Callable[[Tensor], object], scans: int = SCANS, **facts: int) -> Work:
        def turn() -> None:
            with torch.inference_mode():
                for volume in shown[:scans]:
                    score(volume)

        return Work(turn, min(scans, len(shown)), facts)

    def ours() -> Work:
        model = fresh_model(config, volumes, preprocessing, device)
        assert model.calibration is not None
        calibration, networks = model.calibration, model.scoring_networks()

        def score(volume: Tensor) -> object:
            layout = volume.contiguous(memory_format=torch.channels_last_3d)
            return calibration.score(make_maps(ScoringContext(layout, networks), (_NAME,)))

        return work(score)

    def f_anogan() -> Work:
        networks = _networks(config, preprocessing, device)
        method = PostHocEncoder(networks, _networks(config, preprocessing, device).encoder)
        return work(lambda volume: method.map(volume).mean().item())

    def patchcore(size: int) -> Callable[[], Work]:
        def begin() -> Work:
            method = PatchCore(images, size, seed, device)
            return work(lambda volume: method.map(volume).amax().item(), 1, memory=method.memory)

        return begin

    return [
        Contender(
            "medgan", "reconstruction, density of local features, localiser; standardised map and "
            "score", "medgan (Apache-2.0)", ours,
        ),
        Contender(
            "f-AnoGAN", "encoder, medgan's generator and discriminator: residuals of voxels and "
            "features", "medgan's own code, after the paper (Schlegl et al. 2019)", f_anogan,
        ),
        Contender(
            f"PatchCore, {SIZE} x {SIZE}", "each axial slice brought to anomalib's default "
            f"size; memory of {MEMORY} features at most", _ANOMALIB, patchcore(SIZE),
        ),
        Contender(
            "PatchCore, slices as they are", "each axial slice in its own size: a coarse map, "
            "of 8 x 8 pixels", _ANOMALIB, patchcore(0),
        ),
    ]  # fmt: skip


def fresh_model(
    config: Config, volumes: PreparedVolumes, preprocessing: Preprocessing, device: torch.device
) -> Model:
    """A model with random weights, and densities and calibration of the scans at hand."""
    networks = _networks(config, preprocessing, device)
    model = Model(networks, preprocessing, config.model, device=device)
    model.learn_densities(volumes.batches)
    scoring_networks = model.scoring_networks()
    with seeded(config.train.seed, device):
        networks.localiser = fresh_localiser(
            preprocessing, config.model, localiser_inputs(scoring_networks)
        )
    networks.to(device)
    scoring_networks = model.scoring_networks()
    with torch.inference_mode():
        maps = [
            make_maps(ScoringContext(volume.to(device), scoring_networks), (_NAME,))[_NAME]
            for volume in volumes.batches(1)
        ]
    model.calibration = calibrate({_NAME: torch.cat(maps)}, ScoringConfig((_NAME,)))
    return model


def _networks(config: Config, preprocessing: Preprocessing, device: torch.device):  # noqa: ANN202
    with seeded(config.train.seed, device):
        networks = synthesis_networks(
            preprocessing, config.model, channels(preprocessing.labels), 0
        )
    networks.to(device)
    return networks
