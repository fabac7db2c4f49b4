import json
import logging

import pytest
import torch
import yaml

from medgan.errors import Interrupted, TrainingDiverged
from medgan.pipeline import run_pipeline
from medgan.tracking.tracker import JsonlTracker
from medgan.training import loop
from medgan.training.samples import Reference, look
from tests.builders import CONFIG, TINY, fresh_state, write_folder


@pytest.fixture
def training(tmp_path):
    """A call that trains on small scans into a folder, with more settings on request."""
    source = write_folder(tmp_path / "scans", 12)
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": TINY}))

    def run(name="out", *overrides):
        out = tmp_path / name
        run_pipeline(str(pipeline), [f"out={out}", f"data.source={source}", *overrides])
        return out

    return run


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_training_leaves_figures_pictures_two_checkpoints_and_a_model(training):
    out = training()
    losses = [row for row in rows(out) if "critic/loss" in row]
    assert [row["volumes_seen"] for row in losses] == list(range(2, 17, 2))
    assert {"critic/gap", "pair/loss", "generator/reconstruction", "time/loading_share"} <= set(
        losses[0]
    )
    looks = [row for row in rows(out) if "samples/kernel_distance" in row]
    assert [row["volumes_seen"] for row in looks] == [8, 16]
    assert {"samples/diversity", "samples/label_1_volume"} <= set(looks[0])
    assert len(list((out / "samples").glob("*.png"))) == 2
    kept = sorted(p.stem for p in (out / "checkpoints").glob("*.json"))
    assert kept == ["000000012", "000000016"]
    assert (out / "model" / "config.json").is_file()


def test_a_number_that_is_not_finite_stops_with_the_last_good_checkpoint_named(
    training, monkeypatch
):
    calls = []
    real = loop.generator_step

    def spoiled(*arguments):
        calls.append(1)
        if len(calls) == 7:
            raise FloatingPointError
        return real(*arguments)

    monkeypatch.setattr(loop, "generator_step", spoiled)
    with pytest.raises(TrainingDiverged, match="last good checkpoint is 000000012") as caught:
        training()
    assert caught.value.code == "E_NAN"
    assert caught.value.exit_status == 5
    monkeypatch.setattr(loop, "generator_step", real)
    out = training()
    assert (out / "model" / "model.safetensors").is_file()


def test_weights_that_are_not_finite_are_never_saved(training, monkeypatch):
    real = loop.average_step

    def spoiled(state, config):
        real(state, config)
        if state.volumes_seen == 8:
            with torch.no_grad():
                next(state.networks.encoder.parameters()).fill_(float("nan"))

    monkeypatch.setattr(loop, "average_step", spoiled)
    with pytest.raises(TrainingDiverged, match="000000004"):
        training()


def test_an_interrupted_training_ends_with_the_weights_and_figures_of_a_whole_one(
    training, monkeypatch
):
    whole = training("whole")
    real = loop.average_step

    def interrupted(state, config):
        real(state, config)
        if state.volumes_seen == 10:
            import signal

            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "average_step", interrupted)
    with pytest.raises(Interrupted):
        training("stopped")
    monkeypatch.setattr(loop, "average_step", real)
    stopped = training("stopped")
    weights = [(out / "model" / "model.safetensors").read_bytes() for out in (whole, stopped)]
    assert weights[0] == weights[1]
    for a, b in zip(rows(whole), rows(stopped), strict=True):
        steady = [k for k in a if not k.startswith("time/")]
        assert {k: a[k] for k in steady} == {k: b[k] for k in steady}


def test_resume_never_starts_over(training):
    out = training()
    first = rows(out)
    training("out", "train.resume=never", "train.volumes=4")
    assert len(rows(out)) < len(first)


def test_a_time_limit_ends_the_training_early_and_well(training):
    out = training("out", "train.volumes=100000", "train.minutes=0.02")
    assert rows(out)[-1]["volumes_seen"] < 1000
    assert (out / "model" / "model.safetensors").is_file()


def test_samples_that_are_all_alike_raise_the_alarm(tmp_path, caplog):
    state = fresh_state()
    with torch.no_grad():
        for parameter in state.average.generator.parameters():
            parameter.zero_()
    random = torch.Generator().manual_seed(0)
    volumes = torch.rand(9, 1, 16, 16, 16, generator=random)
    reference = Reference(
        torch.randn(16, 8), torch.zeros(16, 0), volumes, (1,), (10.0,), 0.0, 0.0, 0.3
    )
    with caplog.at_level(logging.WARNING):
        look(state, reference, CONFIG.train, JsonlTracker(tmp_path / "m.jsonl"), tmp_path)
    assert "E_DIVERSITY" in caplog.text
