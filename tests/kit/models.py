"""Tiny models and trainings with random weights."""

from pathlib import Path

import numpy as np
import torch

from medgan.core.config import Condition, ModelConfig, Preprocessing, build
from medgan.core.volume import Volume
from medgan.data.batches import Batch
from medgan.data.codebook import channels
from medgan.data.conditions import width
from medgan.model.fresh_networks import synthesis_networks
from medgan.model.model import Model
from medgan.training.loop import step
from medgan.training.state import TrainingState
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.data_sets import TINY
from tests.kit.volumes import AFFINE, ball

CONFIG = build(TINY)
GRID = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), labels=(1,))
SIZES = ModelConfig(latent=8, widths=(16, 16), stem_channels=16, blocks=1)
TWO_LABELS = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), labels=(3, 7))
AGE = Condition(
    name="age", kind="continuous", mean=50.0, spread=20.0, quantiles=tuple(np.linspace(20, 80, 21))
)
SEX = Condition(name="sex", kind="categorical", values=("F", "M"), shares=(0.5, 0.5))
BY_AGE_AND_SEX = Preprocessing(
    spacing=(2, 2, 2), shape=(16, 16, 16), labels=(3,), conditions=(AGE, SEX)
)


def make_model(grid: Preprocessing = TWO_LABELS, seed: int = 0, noise: float = 0.02) -> Model:
    """A model that was never trained.

    Args:
        grid: its preprocessing.
        seed: of its weights.
        noise: standard deviation of what is added to all weights, so that layers that start at
            zero do something.
    """
    torch.manual_seed(seed)
    networks = synthesis_networks(grid, SIZES, channels(grid.labels), width(grid.conditions))
    with torch.no_grad():
        for module in networks.modules().values() if noise else ():
            for p in module.parameters():
                p.add_(noise * torch.randn_like(p))
    return Model(networks, grid, SIZES, {"training_scans": 3})


def save_calibrated(folder: Path, grid: Preprocessing = TWO_LABELS, seed: int = 0) -> Path:
    """A model folder, calibrated on 19 balls."""
    model, random = make_model(grid, seed), np.random.default_rng(seed)
    model.calibrate([Volume(ball(random).astype(np.float32), AFFINE) for _ in range(19)])
    model.save(folder)
    return folder


def make_conditioned(grid: Preprocessing = BY_AGE_AND_SEX, seed: int = 0) -> Model:
    """A model at its very start that generates by age and sex."""
    return make_model(grid, seed, noise=0)


def ageing_model() -> Model:
    """Age alone makes a scan brighter, everywhere alike: the rest of its drawing is constant."""
    model = make_conditioned()
    generator = model.networks.generator
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
        embed = generator.embed
        embed.first.weight[0, 0] = 1.0  # standardised age ...
        embed.first.bias[0] = 5.0  # ... on the linear side of the activation
        embed.second.weight[0, 0] = 1.0
        generator.start.weight[:, SIZES.latent] = 0.02
        generator.ups[0].mix.weight.fill_(1.0 / 16)
        generator.stem.weight[0, 0, 1, 1, 1] = 1.0
        generator.out.weight[0, 0, 1, 1, 1] = 1.0
    return model


def fresh_state(seed: int = 0, **sizes: object) -> TrainingState:
    """A tiny training at its start, labels learned."""
    model = CONFIG.model.model_copy(update=sizes)
    train = CONFIG.train.model_copy(update={"seed": seed})
    return Synthesis.of(GRID, model, train).start(torch.device("cpu"))


def synthesis(grid: Preprocessing = GRID, **train: object) -> Synthesis:
    """A tiny training task, labels learned, with some training settings of its own."""
    return Synthesis.of(grid, CONFIG.model, CONFIG.train.model_copy(update=train))


def advance(state: TrainingState, steps: int) -> None:
    """Trains on random batches that depend on the position alone."""
    task = synthesis()
    for _ in range(steps):
        random = torch.Generator().manual_seed(state.volumes_seen)
        shown = _batch([True, False], random)
        step(task, state, lambda shown=shown: shown)


def batch(labelled: list[bool]) -> Batch:
    """Random volumes and labels; `labelled` says which have a label map."""
    return _batch(labelled, torch.Generator().manual_seed(1))


def _batch(labelled: list[bool], random: torch.Generator) -> Batch:
    shape = (len(labelled), 1, 16, 16, 16)
    return Batch(
        {
            "volume": torch.rand(shape, generator=random) * 2 - 1,
            "labels": torch.rand(shape, generator=random) * 2 - 1,
            "labelled": torch.tensor(labelled),
            "condition": torch.zeros(len(labelled), 0),
        }
    )
