"""Whether a training on conditions makes the generator obey them."""

import copy

import numpy as np
import pytest
import torch

from medgan.core.config import Condition, Preprocessing, TrainConfig
from medgan.data.batches import Batch
from medgan.data.conditions import encode
from medgan.training import draws
from medgan.training.loop import step
from medgan.training.state import TrainingState
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.models import CONFIG, fresh_state
from tests.kit.volumes import SIZE

AGE = Condition(
    name="age", kind="continuous", mean=50, spread=17, quantiles=tuple(np.linspace(20, 80, 21))
)
SEX = Condition(name="sex", kind="categorical", values=("F", "M"), shares=(0.5, 0.5))
GRID = Preprocessing(spacing=(2, 2, 2), shape=SIZE, conditions=(AGE, SEX))
TRAIN = TrainConfig(volumes=640, batch=8, warmup=80, gamma=5, learning_rate=2e-3, precision="fp32")

TASK = Synthesis.of(GRID, CONFIG.model, TRAIN)


def start() -> TrainingState:
    return TASK.start(torch.device("cpu"))


def make_batch(rng: np.random.Generator) -> Batch:
    """Cubes at random places that are as bright as they are old."""
    volume = torch.full((8, 1, *SIZE), -1.0)
    condition = []
    for scan in volume[:, 0]:
        age = rng.uniform(20, 80)
        x, y, z = rng.integers(2, 5, 3)
        scan[x : x + 10, y : y + 10, z : z + 10] = (age - 50) / 40
        condition.append(encode(GRID.conditions, {"age": age, "sex": rng.choice(["F", "M"])}))
    return Batch(
        {
            "volume": volume,
            "labels": torch.zeros(8, 0, *SIZE),
            "labelled": torch.zeros(8, dtype=torch.bool),
            "condition": torch.tensor(np.array(condition)),
        }
    )


def brightness(state: TrainingState, age: float | None) -> float:
    """Mean of the middle of 16 fakes of one age."""
    latents = torch.randn(16, CONFIG.model.latent, generator=torch.Generator().manual_seed(1))
    condition = torch.from_numpy(encode(GRID.conditions, {"age": age})).expand(16, -1)
    with torch.no_grad():
        fakes = state.average.generator(latents, condition)
    return float(fakes[:, 0, 6:10, 6:10, 6:10].mean())


def test_as_much_is_dropped_as_configured_and_each_condition_whole(monkeypatch):
    state = start()
    condition = torch.tensor([[0.5, 1, 0, 1]]).expand(4000, -1)

    def drop(share: float) -> torch.Tensor:
        monkeypatch.setattr(draws, "CONDITION_DROPOUT", share)
        return draws.drop_conditions(state, condition, (2, 2))

    dropped = drop(0.25)
    age, sex = dropped[:, 1] == 0, dropped[:, 3] == 0
    assert torch.equal(age, dropped[:, 0] == 0)
    for share in (age, sex):
        assert abs(share.double().mean() - 0.25) < 0.03
    assert abs((age & sex).double().mean() - 0.25**2) < 0.02
    assert torch.equal(drop(0.0), condition)
    assert not drop(1.0).any()


def test_without_conditions_no_random_number_is_drawn_and_no_parameter_added():
    state = fresh_state()
    before = state.random.get_state()
    assert draws.drop_conditions(state, torch.zeros(2, 0), ()).shape == (2, 0)
    assert not draws.draw_noise(state, 2)
    assert torch.equal(before, state.random.get_state())
    assert state.pair_discriminator is not None
    for network in (*state.networks.modules().values(), state.pair_discriminator):
        assert not [name for name, _ in network.named_parameters() if "embed" in name]


def test_critics_learn_from_the_condition_and_so_does_the_generator():
    state, rng = start(), np.random.default_rng(0)
    parts = (state.networks.discriminator.embed, state.networks.generator.embed)
    before = [copy.deepcopy(part) for part in parts]
    for move in (TASK.discriminator_step, TASK.generator_step):
        move(state, make_batch(rng))
    for old, new in zip(before, parts, strict=True):
        assert old is not None
        assert new is not None
        assert not torch.equal(old.second.weight, new.second.weight)


@pytest.mark.slow
def test_after_a_short_training_what_is_asked_for_is_what_comes():
    state, rng = start(), np.random.default_rng(0)
    for _ in range(TRAIN.volumes // TRAIN.batch):
        step(TASK, state, lambda: make_batch(rng))
    young, middle, old = (brightness(state, age) for age in (25.0, 50.0, 75.0))
    assert young < middle < old
    assert old - young > 0.4  # 1.25 between real ones
