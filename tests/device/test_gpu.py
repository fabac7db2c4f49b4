"""On a CUDA device: `pytest -m gpu`, about three minutes on a card."""

import json

import numpy as np
import pytest
import torch
import yaml

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.config import ModelConfig, Preprocessing
from medgan.core.volume import Volume
from medgan.training.memory import predict_memory
from medgan.training.steps import average_step
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import CONFIG

NAME = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def trained(folder, source, steps, *overrides: str):
    """The folder of a training on the device."""
    pipeline = folder.with_suffix(".yaml")
    pipeline.write_text(yaml.safe_dump({"steps": steps, "config": TINY}))
    run_pipeline(
        str(pipeline),
        [f"out={folder}", f"data.source={source}", f"train.device={NAME}", *overrides],
    )
    return folder


def losses(folder) -> dict[int, float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["volumes_seen"]: row["critic/loss"] for row in rows if "critic/loss" in row}


def test_a_model_trains_is_calibrated_and_scores_as_on_the_cpu(tmp_path):
    source = write_folder(tmp_path / "scans", 20)
    steps = ["index", "train", "scorers", "calibrate", "generate", "score"]
    out = trained(tmp_path / "out", source, steps, "train.volumes=64")
    assert np.isfinite(list(losses(out).values())).all()
    here, there = (medgan.load(out / "model", device=device) for device in ("cpu", NAME))
    for path in sorted(source.glob("person-??.nii.gz"))[:5]:
        expected, found = here.score(path), there.score(path)
        assert found.score == pytest.approx(expected.score, rel=0.05, abs=0.05)
        assert np.abs(found.recon.data - expected.recon.data).max() < 0.02 * np.ptp(
            expected.recon.data
        )
    assert isinstance(there.generate(1)[0].image, Volume)
    assert there.invert(source / "person-00.nii.gz", steps=5).error_after < 1


def test_a_training_that_was_stopped_goes_on(tmp_path):
    source = write_folder(tmp_path / "scans", 12)
    whole = trained(tmp_path / "whole", source, ["index", "train"])
    half = trained(tmp_path / "half", source, ["index", "train"], "train.volumes=8")
    resumed = trained(half, source, ["index", "train"])
    expected, found = losses(whole), losses(resumed)
    assert list(found) == list(expected)
    for seen, loss in expected.items():
        assert found[seen] == pytest.approx(loss, rel=0.1, abs=0.1)


def test_the_forecast_of_memory_is_what_a_step_takes():
    """Kernels take memory of their own beyond the tensors that are counted."""
    device = torch.device(NAME)
    grid = Preprocessing(spacing=(1, 1, 1), shape=(96, 96, 96), labels=(1,))
    train = CONFIG.train.model_copy(update={"batch": 2, "precision": "bf16"})
    sizes = ModelConfig(latent=64, widths=(32, 64, 128), stem_channels=16)
    predicted = predict_memory(CONFIG.model_copy(update={"train": train, "model": sizes}), grid)
    task = Synthesis.of(grid, sizes, train)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    state, batch = task.start(device), task.example(2, device)
    for _ in range(2):  # the first step also chooses kernels and makes the moments
        torch.cuda.reset_peak_memory_stats(device)
        state.volumes_seen = 0  # the penalty is due
        task.discriminator_step(state, batch)
        state.volumes_seen = 0  # the encoder is due
        task.generator_step(state, batch)
        average_step(state, task.schedule)
    measured = torch.cuda.max_memory_allocated(device) - before
    assert 0.7 * measured < predicted.peak < 1.3 * measured
