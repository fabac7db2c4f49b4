"""Training on another device than the CPU: nothing is mixed, and the numbers are the CPU's."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from medgan.anomaly.context import local_density
from medgan.core.config import LocaliserConfig, Preprocessing
from medgan.data.batches import Batch, PreparedVolumes
from medgan.data.codebook import channels
from medgan.data.conditions import width
from medgan.networks.blocks import Stages
from medgan.networks.localiser import Localiser
from medgan.training import forecast as forecasts
from medgan.training.checkpoint import restore_newest, save_checkpoint
from medgan.training.localiser import train_localiser
from medgan.training.loop import step
from medgan.training.memory import predict_memory, refuse_what_cannot_fit
from medgan.training.samples import Adaptation, Reference, evaluate_samples
from medgan.training.state import TrainingState
from medgan.training.tasks.restoration import Restoration
from medgan.training.tasks.synthesis import Synthesis
from medgan.training.tasks.task import fullest_step
from tests.kit.data_sets import tiny_config
from tests.kit.models import BY_AGE_AND_SEX, CONFIG, SIZES
from tests.kit.volumes import SIZE

pytestmark = [pytest.mark.fault(45), pytest.mark.usefixtures("in_one_order")]
CPU = torch.device("cpu")
GRID = BY_AGE_AND_SEX
CT = GRID.model_copy(update={"intensity": "ct", "window": ((-1000.0, 0.0), (-200.0, 400.0))})
TRAIN = CONFIG.train.model_copy(
    update={
        "precision": "fp32", "augment": 0.5, "reconstruction_augmentation": 0.5,
    }
)  # fmt: skip


class InMemory(PreparedVolumes):
    """Random volumes that were never files."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.images = [rng.uniform(-1, 1, (1, *SIZE)).astype(np.float32) for _ in range(count)]

    def __len__(self) -> int:
        return len(self.images)

    def arrays(self, number: int) -> tuple[np.ndarray, None]:
        return self.images[number], None


def batch(grid: Preprocessing, number: int, device: torch.device) -> Batch:
    random = torch.Generator().manual_seed(number)
    volumes = torch.rand(2, 1 + channels(grid.labels), *SIZE, generator=random) * 2 - 1
    condition = torch.rand(2, width(grid.conditions), generator=random)
    tensors = {"volume": volumes[:, :1], "labels": volumes[:, 1:], "condition": condition}
    return Batch({**tensors, "labelled": torch.tensor([True, False])}).to(device)


def advance(state: TrainingState, grid: Preprocessing, config) -> dict[str, float]:
    scalars, task = {}, Synthesis.of(grid, SIZES, config)
    for _ in range(2):
        drawn = batch(grid, state.volumes_seen, state.device)
        scalars |= step(task, state, lambda drawn=drawn: drawn)
    return {name: value.item() for name, value in scalars.items()}


@pytest.mark.parametrize(
    ("settings", "grid"),
    [
        ({}, GRID),
        ({"objective": "wgan-gp"}, GRID),
        ({"micro_batch": 1, "checkpoint_activations": True, "objective": "hinge"}, GRID),
        ({"precision": "bf16"}, CT),
    ],
    ids=["r1+r2", "gp", "micro-batches", "CT"],
)
def test_steps_are_those_of_the_cpu(device, settings, grid, in_one_order, measured):
    config = TRAIN.model_copy(update=settings)
    here = Synthesis.of(grid, SIZES, config).start(CPU)
    there = Synthesis.of(grid, SIZES, config).start(device)
    expected, found = advance(here, grid, config), advance(there, grid, config)
    assert {"critic/loss", "pair/loss", "generator/latent", "generator/reconstruction"} <= set(
        found
    )
    # The simulated device ignores autocast.
    assert found == pytest.approx(expected, rel=1e-3 if config.precision == "fp32" else 0.3)
    assert there.is_finite()
    measured(f"{in_one_order()} kinds of operations in a training step, none without an order")


def test_restoration_steps_are_those_of_the_cpu(device):
    config = TRAIN.model_copy(update={"task": "restoration"})
    found = []
    for where in (CPU, device):
        random = torch.Generator().manual_seed(0)
        condition = torch.zeros(2, width(GRID.conditions))
        none = torch.zeros(2, 0, *SIZE)
        volumes = [torch.rand(2, 1, *SIZE, generator=random) * 2 - 1 for _ in range(4)]
        density = local_density(lambda volumes=volumes: volumes).to(where)
        task = replace(Restoration.of(GRID, SIZES, config), density=density)
        state = task.start(where)
        state.volumes_seen = fullest_step(task)  # the discriminator takes part
        batches = iter(
            Batch({"volume": one, "corrupted": two, "condition": condition, "usual": none}).to(
                where
            )
            for one, two in pairwise(volumes)
        )
        scalars = step(task, state, lambda batches=batches: next(batches))
        found.append({name: value.item() for name, value in scalars.items()})
        assert state.is_finite()
    expected, there = found
    assert {"critic/loss", "critic/r1", "generator/critic", "generator/lesion"} <= set(there)
    assert there == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_restorer_is_evaluated(device, tmp_path):
    config = TRAIN.model_copy(update={"task": "restoration"})
    volumes = InMemory(3)
    task = Restoration.of(GRID, SIZES, config).informed(volumes, device)
    state = task.start(device)
    found = task.evaluator(state, volumes, volumes)(state, tmp_path / "samples.png")
    assert np.isfinite(list(found.values())).all()
    assert found["samples/restoration_lesion"] > 0


def test_a_checkpoint_goes_back_to_its_device(device, tmp_path):
    state = Synthesis.of(GRID, SIZES, TRAIN).start(device)
    advance(state, GRID, TRAIN)
    save_checkpoint(state, tmp_path)
    resumed = Synthesis.of(GRID, SIZES, TRAIN).start(device)
    assert restore_newest(resumed, tmp_path)
    assert advance(resumed, GRID, TRAIN) == pytest.approx(advance(state, GRID, TRAIN), rel=1e-5)


def test_samples_are_evaluated(device, tmp_path):
    state = Synthesis.of(GRID, SIZES, TRAIN).start(device)
    real = torch.rand(3, 1, *SIZE) * 2 - 1
    latents = torch.randn(4, SIZES.latent, device=device)
    reference = Reference(
        latents,
        torch.zeros(4, width(GRID.conditions), device=device),
        real,
        real,
        (3,),
        (9.0,),
        0.0,
        0.1,
        0.5,
    )
    found = evaluate_samples(state, tmp_path / "samples.png", reference, Adaptation(160, 2), 2, 0)
    assert np.isfinite(list(found.values())).all()
    assert found["train/augment"] == state.augment


def test_memory_is_forecast_and_too_large_trainings_are_refused(device):
    config = CONFIG.model_copy(update={"train": TRAIN})
    assert predict_memory(config, GRID).peak > 0
    refuse_what_cannot_fit(config, GRID, device)


@pytest.mark.parametrize("task", ["synthesis", "restoration"])
def test_a_dry_run_forecasts_memory_and_time(task, device, tmp_path, monkeypatch):
    monkeypatch.setattr(forecasts, "choose_device", lambda name: device)
    asked = tiny_config(tmp_path, f"train.task={task}", "localiser.volumes=0")
    found = forecasts.forecast(asked, GRID)
    assert found.memory.peak > found.memory.resident > 0
    assert found.seconds_per_1000 is not None


def test_a_localiser_learns_on_the_device_of_the_model(device, scoring_networks, tmp_path):
    localiser = Localiser(("density", "recon"), Stages((8, 8), 4, 1)).to(device)
    rng = np.random.default_rng(0)
    scans = [rng.uniform(-1, 1, (1, *SIZE)).astype(np.float32) for _ in range(3)]
    config = LocaliserConfig(volumes=8)
    made = scoring_networks(device)
    train_localiser(made, 8, localiser, scans, ["brighter"], config, 0, tmp_path)
    assert all(p.device == device and torch.isfinite(p).all() for p in localiser.parameters())
    again = Localiser(("density", "recon"), Stages((8, 8), 4, 1)).to(device)
    train_localiser(made, 8, again, scans, ["brighter"], config, 0, tmp_path)  # resumes, finished
    for ours, resumed in zip(localiser.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours.cpu(), resumed.cpu())
