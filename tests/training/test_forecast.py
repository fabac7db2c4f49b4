from dataclasses import replace

import pytest

from medgan.config import build
from medgan.training import forecast as module
from medgan.training.forecast import forecast
from tests.builders import GRID, TINY


def test_a_forecast_names_parameters_memory_and_the_time_of_every_size():
    config = build(TINY, ["train.volumes=1000", "train.growth=[0.25]"])
    found = forecast(config, GRID)
    assert list(found.parameters) == [
        "generator", "encoder", "discriminator", "pair discriminator",
    ]  # fmt: skip
    assert [(p.shape, p.volumes) for p in found.phases] == [((8, 8, 8), 250), ((16, 16, 16), 750)]
    seconds = [p.seconds for p in found.phases]
    assert all(s is not None and s > 0 for s in seconds)
    assert found.seconds == pytest.approx(0.25 * seconds[0] + 0.75 * seconds[1])
    assert replace(found, minutes=0.001).seconds == pytest.approx(0.06)
    assert found.as_json()["memory"]["peak"] == found.memory.peak
    text = "\n".join(found.lines())
    for part in ("16 x 16 x 16 voxels of 2 x 2 x 2 mm; labels: 1", "in all", "per 1000"):
        assert part in text


def test_what_does_not_fit_is_said_and_not_timed(monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: 10)
    config = build(TINY, ["train.growth=[0.2, 0.5]", "train.volumes=100"])
    found = forecast(config, GRID)
    assert not found.fits
    assert found.seconds is None
    assert "does not fit" in "\n".join(found.lines())
    assert [p.shape for p in found.phases] == [(8,) * 3, (8,) * 3, (16,) * 3]  # two widths: once


@pytest.mark.parametrize(("long", "estimated"), [(1e9, False), (2.4, True)])
def test_each_kind_of_step_counts_as_often_as_it_comes(long, estimated, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "_LONG", long)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def step(name, rare, common):
        def run(state, batch, config):
            every = 1 if name == "penalty_every" and config.growth else getattr(config, name)
            seconds = rare if (state.volumes_seen // config.batch) % every == 0 else common
            now[0] += seconds / 8 ** len(config.growth)

        return run

    monkeypatch.setattr(module, "discriminator_step", step("penalty_every", 8.0, 4.0))
    monkeypatch.setattr(module, "generator_step", step("encoder_every", 6.0, 2.0))
    monkeypatch.setattr(module, "average_step", lambda state, config: None)
    config = build(TINY, ["train.penalty_every=4", "train.encoder_every=2", "train.growth=[0.5]"])
    halved, full = forecast(config, GRID).phases
    assert full.seconds == 500 * ((8 + 3 * 4) / 4 + (6 + 2) / 2)
    assert halved.seconds == 500 * (8 + (6 + 2) / 2) / 8
    assert (halved.estimated, full.estimated) == (False, estimated)
