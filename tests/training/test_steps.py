from dataclasses import replace

import pytest
import torch

from medgan.core.config import WINDOWS
from medgan.networks.losses import OBJECTIVES
from medgan.training.adversary import PENALTIES
from medgan.training.loop import step
from medgan.training.state import TrainingState
from medgan.training.steps import average_step
from medgan.training.tasks import synthesis as module
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.models import CONFIG, GRID, advance, batch, fresh_state, synthesis


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def test_the_discriminator_step_moves_the_discriminators_and_nothing_else():
    state = fresh_state()
    assert state.pair_discriminator is not None
    nets = [*state.networks.modules().values(), state.pair_discriminator]
    before = [weights(n) for n in nets]
    synthesis().discriminator_step(state, batch([True, True]))
    moved = [not torch.equal(b, weights(n)) for b, n in zip(before, nets, strict=True)]
    assert moved == [False, False, True, True]


def test_the_generator_step_moves_generator_and_encoder_and_nothing_else():
    state = fresh_state()
    assert state.pair_discriminator is not None
    nets = [*state.networks.modules().values(), state.pair_discriminator]
    before = [weights(n) for n in nets]
    synthesis().generator_step(state, batch([True, True]))
    moved = [not torch.equal(b, weights(n)) for b, n in zip(before, nets, strict=True)]
    assert moved == [True, True, False, False]


def test_generator_and_encoder_first_learn_as_an_autoencoder():
    train = CONFIG.train.model_copy(update={"autoencode": 0.5, "volumes": 400, "warmup": 8})
    task = Synthesis.of(GRID, CONFIG.model, train)
    state, shown = task.start(torch.device("cpu")), batch([True, False])
    judges = [state.networks.critic, state.pair_discriminator]
    before = [weights(judge) for judge in judges]
    errors = []
    while state.volumes_seen < 200:
        scalars = step(task, state, lambda: shown)
        assert not any(name.startswith(("critic", "pair")) for name in scalars)
        errors.append(float(scalars["generator/reconstruction"]))
    assert errors[-1] < 0.6 * errors[0]
    assert all(torch.equal(b, weights(judge)) for b, judge in zip(before, judges, strict=True))
    scalars = step(task, state, lambda: shown)
    assert {"critic/loss", "pair/loss", "generator/critic"} <= set(scalars)
    assert not any(torch.equal(b, weights(j)) for b, j in zip(before, judges, strict=True))


def test_the_learning_rate_rises_anew_where_the_discriminators_join():
    schedule, state = (
        replace(synthesis().schedule, volumes=1000, warmup=100, minutes=0.0),
        fresh_state(),
    )

    def rate(seen, since):
        state.volumes_seen = seen
        return schedule.rate(state, since) / schedule.learning_rate

    assert rate(500, 0.0) == pytest.approx(0.625)
    assert rate(500, 0.5) < 0.1
    assert rate(600, 0.5) == pytest.approx(1.0)
    assert rate(900, 0.5) == pytest.approx(0.25)


def test_a_step_with_several_windows_penalises_and_moves_all_networks():
    grid = GRID.model_copy(
        update={"intensity": "ct", "window": (WINDOWS["lung"], WINDOWS["soft tissue"])}
    )
    state = synthesis(grid).start(torch.device("cpu"))
    assert state.pair_discriminator is not None
    nets = [*state.networks.modules().values(), state.pair_discriminator]
    before = [weights(n) for n in nets]
    task = synthesis()
    scalars = task.discriminator_step(state, batch([True, True]))
    assert scalars["critic/r1"] > 0
    assert scalars["pair/r2"] > 0
    state.volumes_seen = 0  # the encoder is due
    task.generator_step(state, batch([True, True]))
    assert not any(torch.equal(b, weights(n)) for b, n in zip(before, nets, strict=True))


def test_without_labels_in_a_batch_the_pair_discriminator_rests():
    state = fresh_state()
    assert state.pair_discriminator is not None
    before = weights(state.pair_discriminator)
    scalars = synthesis().discriminator_step(state, batch([False, False]))
    assert "pair/loss" not in scalars
    assert torch.equal(before, weights(state.pair_discriminator))


def test_the_scoring_discriminator_never_sees_label_channels():
    labelled, blank = batch([True, True]), batch([True, True])
    blank = blank.having(labels=torch.full_like(blank.labels, -1.0))
    losses = []
    for one in (labelled, blank):
        scalars = synthesis().discriminator_step(fresh_state(), one)
        losses.append(float(scalars["critic/loss"]))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_penalties_come_as_often_as_asked(every):
    state = fresh_state()
    task = synthesis()
    penalty = replace(task.adversary.penalty, every=every)
    task = replace(task, adversary=replace(task.adversary, penalty=penalty))
    seen = []
    for state.volumes_seen in range(0, 12, 2):
        seen.append("critic/r1" in task.discriminator_step(state, batch([True, True])))
    assert seen == [number % every == 0 for number in range(6)]


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_trains_with_its_penalty(objective):
    state, kinds = fresh_state(), PENALTIES[objective].split("+")
    task = synthesis(objective=objective)
    before = weights(state.networks.discriminator), weights(state.networks.generator)
    metrics = task.discriminator_step(state, batch([True, True]))
    metrics |= task.generator_step(state, batch([True, True]))
    assert {f"critic/{kind}" for kind in kinds} == {
        name for name in metrics if name.startswith("critic/") and name[7:] in ("r1", "r2", "gp")
    }
    assert all(bool(torch.isfinite(value)) for value in metrics.values())
    after = weights(state.networks.discriminator), weights(state.networks.generator)
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_encoder_steps_come_as_often_as_asked():
    state = fresh_state()
    task = synthesis()
    seen = []
    for state.volumes_seen in (0, 2, 4, 6):
        seen.append("generator/latent" in task.generator_step(state, batch([True, True])))
    assert seen == [True, False, True, False]


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_scans_are_augmented_before_they_are_corrupted_and_restored(probability, monkeypatch):
    corrupted, restored = [], []
    corrupt, loss = module.corrupt, module.reconstruction_loss
    monkeypatch.setattr(module, "corrupt", lambda v, *c: (corrupted.append(v), corrupt(v, *c))[1])
    monkeypatch.setattr(
        module, "reconstruction_loss", lambda v, r: (restored.append(v), loss(v, r))[1]
    )
    given = batch([True, True])
    task = synthesis(reconstruction_augmentation=probability)
    task.generator_step(fresh_state(), given)
    assert torch.equal(corrupted[0], restored[0])
    assert torch.equal(corrupted[0], given.volume) == (probability == 0)
    assert bool(corrupted[0].abs().max() <= 1)


@pytest.mark.fault(34)
def test_a_loss_that_is_not_finite_moves_nothing():
    state = fresh_state()
    before = weights(state.networks.discriminator)
    bad = batch([True, True])
    bad = bad.having(volume=bad.volume * float("nan"))
    with pytest.raises(FloatingPointError):
        synthesis().discriminator_step(state, bad)
    assert torch.equal(before, weights(state.networks.discriminator))


def test_the_average_of_constant_weights_is_those_weights():
    state = fresh_state()
    state.volumes_seen = 100
    with torch.no_grad():
        for p in state.networks.generator.parameters():
            p.fill_(3.0)
    for _ in range(400):
        average_step(state, synthesis().schedule)
    assert torch.allclose(weights(state.average.generator), torch.tensor(3.0), atol=1e-3)


def test_the_average_halves_its_distance_in_one_half_life():
    state = fresh_state()
    state.volumes_seen = 10**9
    with torch.no_grad():
        for p in state.average.generator.parameters():
            p.fill_(0.0)
        for p in state.networks.generator.parameters():
            p.fill_(1.0)
    task = synthesis(ema_half_life=20.0)
    for _ in range(20 // task.schedule.batch):
        average_step(state, task.schedule)
    assert torch.allclose(weights(state.average.generator), torch.tensor(0.5), atol=1e-5)


def test_the_learning_rate_rises_stays_and_falls():
    state = fresh_state()
    task = synthesis(volumes=1000, warmup=100)
    rates = []
    for seen in (0, 50, 98, 200, 400, 600, 1000):
        state.volumes_seen = seen
        rates.append(task.schedule.rate(state) / task.schedule.learning_rate)
    assert rates == pytest.approx([0.02, 0.52, 1, 1, 0.75, 0.5, 0.05])


def test_progress_is_by_volumes_or_minutes_whichever_is_further():
    state = fresh_state()
    task = synthesis(volumes=100, minutes=2.0)
    state.volumes_seen, state.seconds = 30, 90.0
    assert task.schedule.progress(state) == 0.75
    state.volumes_seen = 90
    assert task.schedule.progress(state) == 0.9


def test_gamma_is_doubled_while_the_networks_find_each_other():
    state = fresh_state()
    penalty = synthesis().adversary.penalty
    assert penalty.weight(state) == 2 * CONFIG.train.gamma
    state.volumes_seen = 2 * CONFIG.train.warmup
    assert penalty.weight(state) == CONFIG.train.gamma


@pytest.mark.fault(45)
def test_two_trainings_with_one_seed_are_equal_and_with_two_seeds_are_not():
    states = [fresh_state(), fresh_state(), fresh_state(seed=1)]
    for state in states:
        advance(state, 2)
    first, second, other = (weights(s.networks.generator) for s in states)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_discriminators_see_augmented_volumes_and_the_probability_adapts_from_the_state():
    state = fresh_state()
    task = synthesis(augment="adaptive")
    seen = []
    real = batch([True, True])
    trunk = state.networks.critic.trunk
    trunk.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for state.augment in (0.0, 0.8):
        seen.clear()
        task.discriminator_step(state, real)
        assert torch.equal(seen[0][: len(real)], real.volume) == (state.augment == 0.0)


def without_chance() -> TrainingState:
    """A training whose fakes do not depend on what is drawn."""
    state = fresh_state()
    state.bf16 = False
    generator = state.networks.generator
    with torch.no_grad():
        for linear in (generator.start, *generator.scales):
            linear.weight.zero_()
        for parameter in state.networks.discriminator.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=state.random), alpha=0.05)
    return state


def test_a_batch_in_parts_moves_the_discriminators_as_the_whole_batch_does():
    shown = batch([True, False, True, True])
    moved = []
    for micro_batch in (0, 1, 2):
        state = without_chance()
        sizes = {"batch": 4, "micro_batch": micro_batch}
        metrics = synthesis(**sizes).discriminator_step(state, shown)
        gradients = [p.grad for p in state.networks.discriminator.parameters()]
        gradients += [p.grad for p in state.pair_discriminator.parameters()]
        assert any(gradient.abs().max() > 1e-2 for gradient in gradients)
        moved.append((metrics, gradients))
    whole_metrics, whole = moved[0]
    assert {"pair/r1", "critic/r2", "critic/gap"} <= whole_metrics.keys()
    for metrics, gradients in moved[1:]:
        assert metrics.keys() == whole_metrics.keys()
        for name, value in whole_metrics.items():
            assert torch.allclose(metrics[name], value, rtol=1e-4, atol=1e-6), name
        for part, one in zip(gradients, whole, strict=True):
            assert torch.allclose(part, one, rtol=1e-3, atol=1e-5 * one.abs().max() + 1e-6)


def test_a_batch_in_parts_moves_generator_and_encoder_as_the_whole_batch_does(monkeypatch):
    shown = batch([True, True, False, True])
    moved = []
    for micro_batch in (0, 1, 2):
        state = without_chance()
        monkeypatch.setattr(module, "draw_latents", lambda state, n: torch.ones(n, 8))
        corrupted = shown.volume.flip(2)
        monkeypatch.setattr(module, "corrupt", lambda *_, corrupted=corrupted: corrupted)
        sizes = {"batch": 4, "micro_batch": micro_batch}
        metrics = synthesis(**sizes).generator_step(state, shown)
        modules = state.networks.generator, state.networks.encoder
        gradients = [p.grad for m in modules for p in m.parameters()]
        moved.append((metrics, gradients))
    whole_metrics, whole = moved[0]
    assert {"generator/reconstruction", "generator/latent"} <= whole_metrics.keys()
    for metrics, gradients in moved[1:]:
        assert metrics.keys() == whole_metrics.keys()
        for name, value in whole_metrics.items():
            assert torch.allclose(metrics[name], value, rtol=1e-4, atol=1e-6), name
        for part, one in zip(gradients, whole, strict=True):
            assert torch.allclose(part, one, rtol=1e-3, atol=1e-5 * one.abs().max())


@pytest.mark.parametrize("settings", [{"micro_batch": 1}, {"checkpoint_activations": True}])
def test_settings_that_save_memory_train_both_networks_and_labels(settings):
    state = fresh_state(widths=(16, 16), stem_stages=2)
    task = synthesis(**settings)
    before = [weights(m) for m in state.networks.modules().values()]
    metrics = task.discriminator_step(state, batch([True, False]))
    state.volumes_seen = 0  # the encoder is due
    metrics |= task.generator_step(state, batch([True, False]))
    assert all(bool(torch.isfinite(value)) for value in metrics.values())
    after = [weights(m) for m in state.networks.modules().values()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_activations_computed_twice_move_every_weight_to_the_same_place():
    ends = []
    for on in (False, True):
        state = fresh_state()
        state.bf16 = False
        task = synthesis(checkpoint_activations=on)
        for _ in range(2):
            step(task, state, lambda: batch([True, True]))
        ends.append(weights(state.networks.generator))
    assert torch.allclose(*ends, atol=1e-5)


def test_a_training_that_begins_black_does_so_in_the_average_too():
    state = fresh_state()
    assert state.networks.generator.out.bias[0] == 0
    state = synthesis(init_background=True).start(torch.device("cpu"))
    for networks in (state.networks, state.average):
        assert networks.generator.out.bias[0] < -1
