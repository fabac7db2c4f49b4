from dataclasses import replace

import pytest

from medgan.core.config import build
from medgan.training import forecast as module
from medgan.training.forecast import forecast
from medgan.training.memory import StepMemory
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.data_sets import TINY
from tests.kit.models import GRID


def test_a_forecast_names_parameters_memory_and_time():
    config = build(TINY, ["train.volumes=500"])
    found = forecast(config, GRID)
    assert list(found.parameters) == [
        "generator", "encoder", "discriminator", "pair discriminator",
    ]  # fmt: skip
    assert found.seconds_per_1000 > 0
    assert found.seconds == pytest.approx(found.seconds_per_1000 / 2)
    assert replace(found, minutes=1e-6).seconds == pytest.approx(6e-5)
    assert found.as_json()["memory"]["peak"] == found.memory.peak
    text = "\n".join(found.lines())
    for part in ("16 x 16 x 16 voxels of 2 x 2 x 2 mm; labels: 1", "in all", "per 1000"):
        assert part in text


def test_what_does_not_fit_is_said_and_not_timed(monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: 10)
    found = forecast(build(TINY), GRID)
    assert not found.fits
    assert found.seconds is None
    assert "does not fit" in "\n".join(found.lines())


@pytest.mark.parametrize("long", [1e9, 20 / 8 - 0.1, 20 / 64 - 0.1])
def test_each_kind_of_step_counts_as_often_as_it_comes(long, monkeypatch):
    now, sizes = [0.0], []
    monkeypatch.setattr(module, "_LONG", long)
    monkeypatch.setattr(module, "predict_memory", lambda *_: StepMemory(1, 1, 1))
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def step(name, rare, common):
        def run(task, state, batch):
            every = task.adversary.penalty.every if name == "penalty" else task.encoder.every
            seconds = rare if task.schedule.step_is_due(state, every) else common
            sizes.append(batch.volume.shape[2])
            now[0] += seconds * (batch.volume.shape[2] / 16) ** 3

        return run

    monkeypatch.setattr(Synthesis, "discriminator_step", step("penalty", 8.0, 4.0))
    monkeypatch.setattr(Synthesis, "generator_step", step("encoder", 6.0, 2.0))
    monkeypatch.setattr(module, "average_step", lambda state, schedule: None)
    found = forecast(build(TINY), GRID)
    assert found.seconds_per_1000 == 500 * ((8 + 4) / 2 + (6 + 2) / 2)
    assert found.estimated == (16 not in sizes)
    assert (16 in sizes) == (long > 20)
