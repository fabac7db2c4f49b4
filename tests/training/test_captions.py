"""Whether a training on captions makes the generator obey them."""

import numpy as np
import pytest
import torch

from medgan.core.config import TrainConfig
from medgan.data import caption as words
from medgan.data.batches import Batch
from medgan.data.conditions import encode
from medgan.model.model import Model
from medgan.networks.losses import matching_loss
from medgan.training.loop import step
from medgan.training.memory import predict_memory
from medgan.training.state import TrainingState
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.captions import captioned_grid, fake_vector
from tests.kit.models import AGE, CONFIG
from tests.kit.volumes import SIZE

GRID = captioned_grid(AGE)
TRAIN = TrainConfig(volumes=640, batch=8, warmup=80, gamma=5, learning_rate=2e-3, precision="fp32")
SAID = {"A round solid nodule of 8 mm": 8, "A round solid nodule of 32 mm": 14}
"""Captions, and how large the cubes are that they stand for."""


@pytest.fixture(autouse=True)
def vectors(monkeypatch):
    monkeypatch.setattr(words, "vector_of", fake_vector)


def task(**train: object) -> Synthesis:
    return Synthesis.of(GRID, CONFIG.model, TRAIN.model_copy(update=train))


def make_batch(rng: np.random.Generator) -> Batch:
    """Cubes that are as large as their captions say."""
    volume, condition = torch.full((8, 1, *SIZE), -1.0), []
    for scan in volume[:, 0]:
        caption = str(rng.choice(list(SAID)))
        low = (16 - SAID[caption]) // 2
        scan[(slice(low, 16 - low),) * 3] = 0.5
        condition.append(encode(GRID.conditions, {"caption": caption, "age": 50.0}))
    return Batch(
        {
            "volume": volume,
            "labels": torch.zeros(8, 0, *SIZE),
            "labelled": torch.zeros(8, dtype=torch.bool),
            "condition": torch.tensor(np.array(condition)),
        }
    )


def size(state: TrainingState, caption: str) -> float:
    """Mean of all voxels of 16 fakes of a caption."""
    latents = torch.randn(16, CONFIG.model.latent, generator=torch.Generator().manual_seed(1))
    condition = torch.from_numpy(encode(GRID.conditions, {"caption": caption})).expand(16, -1)
    with torch.no_grad():
        return float(state.average.generator(latents, state.average.seen(condition)).mean())


def weights(state: TrainingState) -> torch.Tensor:
    caption = state.networks.caption
    assert caption is not None
    return caption.mix.weight.detach().clone()


def test_the_encoder_of_captions_learns_with_the_discriminator_alone():
    learned, batch = task(), make_batch(np.random.default_rng(0))
    state = learned.start(torch.device("cpu"))
    before = weights(state)
    scalars = learned.discriminator_step(state, batch)
    after = weights(state)
    assert not torch.equal(before, after)
    assert scalars["critic/matching"] > 0
    scalars = learned.generator_step(state, batch)
    assert torch.equal(after, weights(state))
    assert scalars["generator/critic_matching"] > 0


@pytest.mark.slow
def test_micro_batches_and_a_forecast_of_memory_know_captions():
    learned = task(micro_batch=4)
    state = learned.start(torch.device("cpu"))
    assert learned.discriminator_step(state, make_batch(np.random.default_rng(0)))
    assert predict_memory(CONFIG, GRID).discriminator > 0


def test_only_differing_captions_are_told_apart():
    right, wrong = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 9.0])
    loss = matching_loss(right, wrong, torch.tensor([True, False]))
    assert loss == torch.nn.functional.softplus(torch.tensor(-2.0))
    assert matching_loss(right, wrong, torch.tensor([False, False])) == 0


def test_a_model_that_is_shared_still_takes_sentences(tmp_path):
    state = task().start(torch.device("cpu"))
    model = Model(state.average, GRID, CONFIG.model)
    model.share(tmp_path / "m")
    shared = Model.load(tmp_path / "m")
    small, large = (shared.generate(1, text=text)[0] for text in SAID)
    assert small.covariates["caption"] == next(iter(SAID))
    assert not np.array_equal(small.image.data, large.image.data)
    assert shared.generate(1)[0].covariates["caption"] is None


@pytest.mark.slow
def test_after_a_short_training_what_is_said_is_what_comes():
    learned, rng = task(), np.random.default_rng(0)
    state = learned.start(torch.device("cpu"))
    for _ in range(TRAIN.volumes // TRAIN.batch):
        step(learned, state, lambda: make_batch(rng))
    small, large = (size(state, text) for text in SAID)
    assert large - small > 0.2  # 0.82 between real ones
