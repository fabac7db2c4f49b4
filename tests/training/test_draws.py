"""What a step draws: mirrored scans, and noise that is a condition."""

import numpy as np
import torch

from medgan.core.config import Condition
from medgan.core.template import Template
from medgan.training.draws import half_mirrored
from medgan.training.loop import step
from tests.kit.models import CONFIG, GRID, batch, fresh_state, synthesis

LEVELS = tuple(np.linspace(0, 0.1, 21))
NOISE = Condition(name="noise", kind="continuous", mean=0.05, spread=0.02, quantiles=LEVELS)
UNLABELLED = GRID.model_copy(update={"labels": ()})


def aligned(mean):
    """A grid of scans that are aligned to this mean, nothing labelled."""
    mean = mean.astype(np.float32)[None]
    template = Template(mean, np.ones_like(mean), np.zeros((1, 11), np.float32), 0.9)
    return UNLABELLED.model_copy(update={"align": "affine", "template": template})


def shown(grid, count=64):
    """The volumes that a step would show, of scans that are brighter on the right."""
    task = synthesis(grid)
    state = task.start(torch.device("cpu"))
    example = batch([False] * count)
    ramp = torch.linspace(-1, 1, 16).reshape(1, 1, 16, 1, 1).expand(count, 1, 16, 16, 16)
    return task._with_latents(state, example.having(volume=ramp)).volume


def test_half_of_the_scans_are_mirrored_where_left_and_right_are_alike():
    rng = np.random.default_rng(0)
    half = rng.uniform(-1, 1, (8, 16, 16))
    right = shown(aligned(np.concatenate([half, half[::-1]])))[:, 0, -1, 0, 0]
    assert 16 < int((right > 0).sum()) < 48
    assert bool((shown(aligned(rng.uniform(-1, 1, (16, 16, 16))))[:, 0, -1] > 0).all())
    assert bool((shown(UNLABELLED)[:, 0, -1] > 0).all())


def test_mirroring_turns_left_and_right_and_nothing_else():
    state = fresh_state()
    shown = batch([False] * 40)
    mirrored = half_mirrored(state, shown.having(next=shown.volume + 1))
    for before, after in zip(shown.volume, mirrored.volume, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(1))
    assert torch.equal(mirrored["next"], mirrored.volume + 1)


def test_a_training_on_noise_learns_how_strong_it_is():
    grid = UNLABELLED.model_copy(update={"conditions": (NOISE,)})
    task = synthesis(grid)
    state = task.start(torch.device("cpu"))
    noise = state.networks.generator.noise
    assert noise is not None
    before = noise.gains.detach().clone(), noise.line.detach().clone()
    example = batch([False] * CONFIG.train.batch)
    example = example.having(condition=torch.randn(len(example), 2), labels=example.labels[:, :0])
    step(task, state, lambda: example)
    assert not torch.equal(noise.gains, before[0])
    assert not torch.equal(noise.line, before[1])
