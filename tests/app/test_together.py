"""Pipelines that several processes run together."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from medgan.app.pipeline import run_pipeline
from medgan.core.launched import launched
from medgan.training import loop
from medgan.training.steps import average_step
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.data_sets import TINY, write_folder
from tests.kit.ranks import launch

TRAIN = TINY["train"] | {"volumes": 24, "batch": 4, "sample_every": 8, "precision": "fp32"}


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline file that trains in a second or two, on partly labelled scans."""
    source = write_folder(tmp_path / "scans", 12)
    (source / "person-03_label.nii.gz").unlink()
    config = TINY | {"train": TRAIN, "localiser": {}}
    config["data"] = TINY["data"] | {"source": str(source), "labels": [1]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": config}))
    return path


def rows(out: Path) -> list[dict[str, float]]:
    """Metrics of a training, without times."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    no_course = ("time", "system", "generator/clipped")
    return [
        {key: value for key, value in row.items() if not key.startswith(no_course)} for row in found
    ]


def same(one: Path, other: Path, tolerance: float) -> None:
    """Two trainings took the same course to the same weights."""
    for a, b in zip(rows(one), rows(other), strict=True):
        steady = [key for key in a if not key.startswith("samples")]
        assert {k: a[k] for k in steady} == pytest.approx(
            {k: b[k] for k in steady}, rel=tolerance, abs=tolerance
        )
    weights = [load_file(out / "model" / "model.safetensors") for out in (one, other)]
    for key, tensor in weights[0].items():
        assert np.abs(tensor - weights[1][key]).max() < 5e-3


def _train(pipeline: Path, out: Path, stop_at: int = 0, spoil_at: int = 0) -> int:
    """Trains in this process; rank 1 alone, or the only one, is stopped or gets a number wrong."""
    last = launched().rank == launched().ranks - 1
    real = Synthesis.generator_step

    def stopped(state, schedule):
        average_step(state, schedule)
        if state.volumes_seen == stop_at and last:
            signal.raise_signal(signal.SIGTERM)

    def spoiled(task, state, batch):
        if state.volumes_seen == spoil_at and not state.monitor.rollbacks and last:
            batch = batch.having(volume=batch.volume * torch.nan)
        return real(task, state, batch)

    loop.average_step, Synthesis.generator_step = stopped, spoiled
    try:
        return int(run_pipeline(str(pipeline), [f"out={out}"]).exit_status)
    finally:
        loop.average_step, Synthesis.generator_step = average_step, real


@pytest.mark.slow
def test_a_number_that_is_not_finite_in_one_process_sends_all_back(pipeline, tmp_path):
    assert launch(2, _train, pipeline, tmp_path / "two", 0, 12) == [0, 0]
    _train(pipeline, tmp_path / "one", spoil_at=12)
    facts = json.loads((tmp_path / "two" / "model" / "config.json").read_text())["facts"]
    assert facts["rollbacks"] == 1
    steps = [row for row in rows(tmp_path / "two") if "critic/loss" in row]
    assert [row["volumes_seen"] for row in steps] == [4, 8, 12, 16, 20, 24]
    same(tmp_path / "one", tmp_path / "two", 1e-4)


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(pipeline, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _train(pipeline, whole)
    for answer in launch(2, _train, pipeline, parts, 8):
        assert answer.startswith("Interrupted: E_STOPPED at 8 volumes")
    assert launch(1, _train, pipeline, parts, 12)[0].startswith("Interrupted: E_STOPPED at 12")
    assert [one[:25] for one in launch(4, _train, pipeline, parts, 16)] == [
        "Interrupted: E_STOPPED at"
    ] * 4
    assert launch(2, _train, pipeline, parts) == [0, 0]
    same(whole, parts, 1e-4)


def _refused(pipeline: Path, out: Path, setting: str) -> object:
    return int(run_pipeline(str(pipeline), [f"out={out}", setting]).exit_status)


@pytest.mark.slow
def test_what_the_first_process_cannot_do_ends_all(pipeline, tmp_path):
    leader, other = launch(2, _refused, pipeline, tmp_path / "out", "data.source=/nowhere")
    assert leader.startswith("DataError")
    assert other == 3
    for answer in launch(3, _refused, pipeline, tmp_path / "out", "train.batch=4"):
        assert answer.startswith("ConfigError: E_RANKS train.batch: 4 cannot be shared by 3")


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def begin(pipeline: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Two processes by torchrun, as a user starts them."""
    long = ["--set", "train.volumes=160"]
    return subprocess.Popen(
        [*TORCHRUN, *options, "-m", "medgan", "train", str(pipeline), "-o", str(out), *long],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def await_volumes(out: Path, volumes: int) -> None:
    until = time.monotonic() + 200
    while time.monotonic() < until:
        with suppress(OSError, IndexError, ValueError):
            if rows(out)[-1]["volumes_seen"] >= volumes:
                return
        time.sleep(0.1)
    raise AssertionError("the training does not come on")


@pytest.mark.slow
def test_torchrun_restarts_a_killed_process_and_stops_with_a_checkpoint(pipeline, tmp_path):
    whole, killed, stopped = (tmp_path / name for name in ("whole", "killed", "stopped"))
    done = begin(pipeline, whole)
    assert (done.communicate(timeout=300), done.returncode)[1] == 0

    process = begin(pipeline, killed, "--max-restarts", "2")
    await_volumes(killed, 60)
    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if child.environ().get("RANK") == "1"
    ]
    os.kill(workers[0].pid, signal.SIGKILL)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert "resumed at" in said
    same(whole, killed, 1e-6)

    process = begin(pipeline, stopped)
    await_volumes(stopped, 40)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert "E_STOPPED at" in said
    assert process.returncode != 0
    again = begin(pipeline, stopped)
    assert (again.communicate(timeout=300), again.returncode)[1] == 0
    same(whole, stopped, 1e-6)
