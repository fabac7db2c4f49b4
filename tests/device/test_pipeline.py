"""A whole training on another device than the CPU gives what the CPU gives, to the bit."""

import json

import numpy as np
import pytest
import yaml

from medgan.app.pipeline import run_pipeline
from tests.builders import TINY, write_folder
from tests.kit.simulated_device import simulated_device

STEPS = ["index", "train", "scorers", "calibrate", "generate", "score"]


def trained(folder, source, overrides, device=None):
    pipeline = folder / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": STEPS, "config": TINY}))
    run_pipeline(str(pipeline), [f"out={folder}", f"data.source={source}", *overrides])
    return folder


def test_x(tmp_path, monkeypatch):
    source = write_folder(tmp_path / "scans", 12)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = trained(tmp_path / "a", source, ["train.precision=fp32"])
    with simulated_device() as device:
        monkeypatch.setattr("medgan.training.fit.choose_device", lambda name: device)
        monkeypatch.setattr("medgan.training.forecast.choose_device", lambda name: device)
        other = trained(tmp_path / "b", source, ["train.precision=fp32"])

    def rows(f):
        return [
            {k: v for k, v in json.loads(l).items() if not k.startswith("time")}
            for l in (f / "metrics.jsonl").read_text().splitlines()
        ]

    assert rows(one) == rows(other)
