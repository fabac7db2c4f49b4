import json
import signal

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import Interrupted, ModelError
from medgan.core.volume import Volume
from medgan.training import loop
from medgan.training.steps import average_step
from medgan.training.tasks import chosen_task
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import CONFIG, GRID

CPU = torch.device("cpu")


@pytest.fixture
def training(tmp_path):
    """A call that trains a restorer on small scans into a folder."""
    source = write_folder(tmp_path / "scans", 12)
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": TINY}))
    settings = ["train.task=restoration", "train.metric=restoration", f"data.source={source}"]

    def run(name="out"):
        out = tmp_path / name
        run_pipeline(str(pipeline), [f"out={out}", *settings])
        return out

    return run


def task(channels=1, **train):
    names = tuple(f"channel{number}" for number in range(channels))
    settings = CONFIG.train.model_copy(update={"task": "restoration", **train})
    grid = GRID.model_copy(update={"channels": names, "labels": ()})
    return chosen_task(grid, CONFIG.model, settings)


def weights(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("micro_batch", [0, 1])
def test_each_step_moves_its_own_network_and_no_other(channels, micro_batch):
    restoration = task(channels, micro_batch=micro_batch)
    state = restoration.start(CPU)
    modules = list(state.networks.modules().values())  # discriminator, restorer
    for step, moves in (
        (restoration.discriminator_step, [True, False]),
        (restoration.generator_step, [False, True]),
    ):
        before = [weights(module) for module in modules]
        scalars = step(state, restoration.example(2, CPU))
        assert all(bool(torch.isfinite(value)) for value in scalars.values())
        moved = [not torch.equal(b, weights(m)) for b, m in zip(before, modules, strict=True)]
        assert moved == moves


def test_an_interrupted_restoration_ends_like_a_whole_one(training, monkeypatch):
    whole = training("whole")

    def interrupted(state, schedule):
        average_step(state, schedule)
        if state.volumes_seen == 10:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "average_step", interrupted)
    with pytest.raises(Interrupted):
        training("stopped")
    monkeypatch.undo()
    stopped = training("stopped")
    first, second = (load_file(out / "model" / "model.safetensors") for out in (whole, stopped))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    rows = [json.loads(line) for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    found = [row for row in rows if "samples/restoration_lesion" in row]
    assert [row["volumes_seen"] for row in found] == [8, 16]
    assert found[0]["samples/corruption"] > 0
    assert len(list((stopped / "samples").glob("*.png"))) == 2


def test_a_model_restores_a_scan_in_its_own_grid_and_generates_nothing(training):
    model = medgan.load(str(training() / "model"))
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    scan = Volume(np.random.default_rng(0).uniform(0, 100, (18, 16, 15)).astype("f4"), affine)
    (restored,) = model.restore(scan)
    assert restored.data.shape == scan.data.shape
    assert np.array_equal(restored.affine, affine)
    inside = (slice(2, -2),) * 3
    assert np.abs(restored.data - scan.data)[inside].mean() < 20
    with pytest.raises(ModelError) as caught:
        model.generate(1)
    assert caught.value.code == "E_GENERATOR"
