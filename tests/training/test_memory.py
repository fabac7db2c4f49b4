import pytest
import torch

from medgan.core.config import Preprocessing, build
from medgan.core.errors import EnvironmentFailure
from medgan.networks.blocks import convolution
from medgan.training import memory
from medgan.training.memory import (
    LiveBytes,
    StepMemory,
    free_memory,
    predict_memory,
    refuse,
    refuse_what_cannot_fit,
)
from tests.kit.data_sets import TINY
from tests.kit.models import BY_AGE_AND_SEX, CONFIG, GRID, batch, fresh_state, synthesis

LARGE = Preprocessing(spacing=(1, 1, 1), shape=(64, 64, 64))
CPU = torch.device("cpu")


def test_live_bytes_count_a_storage_once_until_it_is_freed():
    with LiveBytes() as live:
        a = torch.zeros(1000)
        assert live.now == 4000
        b = a[:10].view(2, 5)
        assert live.now == 4000
        c = a + 1
        assert live.now == 8000
        del c
        assert live.now == 4000
        del a
        assert live.now == 4000  # its view still lives
        del b
    assert (live.now, live.peak) == (0, 8000)


def test_live_bytes_see_what_a_backward_pass_keeps_and_frees():
    layer = convolution(1, 4)
    with LiveBytes() as live:
        x = torch.zeros(1, 1, 8, 8, 8)
        out = layer(x).relu().square().sum()
        kept = 4 * 8**3 * 4  # what relu gave; before it, nothing asks for the convolution's own
        assert 2048 + kept <= live.now < 2048 + 2 * kept
        out.backward()
        assert live.now < 2048 + kept


@pytest.mark.parametrize("micro_batch", [0, 1])
def test_the_prediction_is_what_real_steps_keep_alive(micro_batch):
    config = build(TINY, [f"train.micro_batch={micro_batch}"])
    predicted = predict_memory(config, GRID)
    task = synthesis(micro_batch=micro_batch)
    state = fresh_state()
    for _ in range(2):  # the first step makes the moments
        real = LiveBytes()
        batches = [batch([True, True]) for _ in range(2)]
        with real:
            modules = [*state.networks.modules().values(), state.pair_discriminator]
            modules += state.average.modules().values()
            real.add(p for m in modules for p in m.parameters())
            real.add(p.grad for m in modules for p in m.parameters())
            for optimizer in (state.discriminator_optimizer, state.generator_optimizer):
                real.add(v for values in optimizer.state.values() for v in values.values())
            real.add(tensor for one in batches for tensor in one.tensors.values())
            state.volumes_seen = 0  # the penalty is due
            task.discriminator_step(state, batches[0])
            discriminator, real.peak = real.peak, real.now
            state.volumes_seen = 0  # the encoder is due
            task.generator_step(state, batches[1])
    assert predicted.discriminator == pytest.approx(discriminator, rel=0.02)
    assert predicted.generator == pytest.approx(real.peak, rel=0.02)


def test_predicting_draws_no_random_numbers():
    before = torch.random.get_rng_state()
    predict_memory(CONFIG, GRID)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
def test_activations_grow_with_the_voxels_and_shrink_with_parts_and_with_computing_twice():
    def predict(**settings) -> StepMemory:
        train = CONFIG.train.model_copy(update={"batch": 4, **settings})
        return predict_memory(CONFIG.model_copy(update={"train": train}), LARGE)

    whole, parts = predict(), predict(micro_batch=1)
    twice, double = predict(checkpoint_activations=True), predict(batch=8)
    assert parts.peak - parts.resident < 0.4 * (whole.peak - whole.resident)
    assert twice.generator < 0.95 * whole.generator
    assert twice.discriminator == whole.discriminator
    assert double.peak - double.resident == pytest.approx(2 * (whole.peak - whole.resident), 0.1)


def test_a_training_that_cannot_fit_is_refused_with_what_would_help(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**20)
    with pytest.raises(EnvironmentFailure) as caught:
        refuse_what_cannot_fit(CONFIG, GRID, CPU)
    assert caught.value.code == "E_MEMORY"
    for setting in ("train.micro_batch", "train.checkpoint_activations", "model.stem_stages"):
        assert setting in caught.value.remedy
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**50)
    refuse_what_cannot_fit(CONFIG, GRID, CPU)


def test_exactly_enough_memory_is_enough():
    needed = StepMemory(1, 2, 3)
    refuse(needed, needed.peak)
    with pytest.raises(EnvironmentFailure):
        refuse(needed, needed.peak - 1)


def test_kernels_take_memory_beside_the_tensors():
    small, large = StepMemory(0, 2**20, 0), StepMemory(0, 2**30, 2**31)
    assert small.peak > 10 * 2**20
    assert large.peak == pytest.approx(1.035 * 2**31, rel=5e-3)


def test_free_memory_is_less_than_all_there_is():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50


def test_a_training_by_covariates_is_forecast():
    """Dropped conditions have as many columns as there are, which a forecast cannot add up."""
    without, by_covariates = (predict_memory(CONFIG, grid) for grid in (GRID, BY_AGE_AND_SEX))
    assert by_covariates.resident > without.resident
