"""A training that is asked to stop fifty times, at any moment."""

import random
import re
import shutil
import signal
import time

import pytest
import yaml

from tests.kit.data_sets import TINY, write_folder
from tests.kit.warm_program import warm_program

SIGNALS = 50
MOST = 30.0
"""Seconds that batch systems leave between a signal and the end of a job, and often more."""


def newest(out):
    """Volumes of the newest checkpoint."""
    return max((int(mark.stem) for mark in (out / "checkpoints").glob("*.json")), default=0)


def weights(out):
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.fault(30)
def test_fifty_signals_at_random_moments_save_within_seconds_and_the_end_is_the_same(
    tmp_path, measured
):
    source = write_folder(tmp_path / "scans", 12, labels=False)
    pipeline = tmp_path / "train.yaml"
    settings = {**TINY, "train": {**TINY["train"], "volumes": 80, "sample_every": 40}}
    settings["train"]["precision"] = "fp32"  # not what is faster, which may change
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": settings}))
    draw, seconds, stopped_at, trainings = random.Random(0), [], [], 0
    home = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    with warm_program(tmp_path / "logs", **home) as program:

        def started(out):
            process = program.start("train", pipeline, "--data", source, "-o", out)
            while not process.said() and process.ended() is None:
                time.sleep(0.01)
            return process

        whole = ["train", pipeline, "--data", source, "-o", tmp_path / "whole"]
        assert program.run(*whole) == 0
        began = time.monotonic()
        assert started(tmp_path / "again").wait() == 0
        takes = time.monotonic() - began
        out = tmp_path / "stopped"
        while len(seconds) < SIGNALS:
            process, before = started(out), newest(out)
            time.sleep(draw.uniform(0, 0.5 * takes))
            if process.ended() is not None:
                assert process.wait() == 0, process.said()
                assert weights(out) == weights(tmp_path / "whole")
                trainings += 1
                shutil.rmtree(out)
                takes *= 0.9  # the machine has become faster
                continue
            sent = time.monotonic()
            process.send(draw.choice([signal.SIGTERM, signal.SIGUSR1]))
            status = process.wait()
            if status == 0 and (out / "model").exists():
                continue  # the signal came when all was done
            seconds.append(time.monotonic() - sent)
            assert status == 75, process.said()
            assert "E_STOPPED" in process.said()
            if at := re.search(r"E_STOPPED at (\d+) volumes", process.said()):
                stopped_at.append(int(at[1]))
                assert newest(out) == int(at[1])
            assert newest(out) >= before
        assert started(out).wait() == 0
        assert weights(out) == weights(tmp_path / "whole")
    assert max(seconds) < MOST
    assert len(set(stopped_at)) > 5  # in the middle of the training, not only before it
    measured(
        f"{len(seconds)} signals in {trainings + 1} trainings, {len(stopped_at)} between "
        f"steps: status 75 each time, after {max(seconds):.1f} s at most, the same end"
    )
