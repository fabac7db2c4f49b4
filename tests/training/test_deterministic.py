"""`train.deterministic`: what may be another in each run decides nothing."""

import json
from itertools import cycle

import pytest
import torch
import yaml

from medgan.app.pipeline import run_pipeline
from medgan.core.threads import SharedCores, shared_cores
from medgan.networks import device
from tests.kit.data_sets import TINY, write_folder
from tests.kit.folder_contents import contents

TIMES = ("metrics.jsonl", "tracking.json", "report")
"""Hold the time, and so do the marks of checkpoints."""


@pytest.fixture
def restless(monkeypatch):
    """A machine on which each measurement of time or of load comes out otherwise."""
    faster, free = cycle([True, False]), cycle([1, 2])

    def share(cores):
        if not cores._fixed:
            torch.set_num_threads(next(free))
        return torch.get_num_threads()

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(shared_cores(), "most", 1)  # two threads on a busy machine take minutes
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "bf16_is_faster", lambda: next(faster))
    monkeypatch.setattr(SharedCores, "share", share)
    yield
    torch.set_num_threads(before)


def trained(tmp_path, name, steps, *overrides):
    source = write_folder(tmp_path / "scans", 12, labels=False)
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": TINY}))
    settings = [f"train.volumes={2 * steps}", "train.sample_every=40", *overrides]
    out = tmp_path / name
    run_pipeline(str(pipeline), [f"out={out}", f"data.source={source}", *settings])
    return out


def files(out):
    """All that a training has left, without the time that it took."""
    found = contents(out, *TIMES)
    for name in [name for name in found if name.startswith("checkpoints") and "json" in name]:
        mark = json.loads(found[name])
        state = json.loads(mark["state"])
        del state["seconds"]
        found[name] = {**mark, "state": state, "seal": None}
    return found


def losses(out):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("time", "system"))} for row in rows]


@pytest.mark.fault(45)
@pytest.mark.parametrize("steps", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_two_trainings_with_one_seed_end_in_the_same_bytes(tmp_path, restless, steps, measured):
    switch = "train.deterministic=true"
    runs = [trained(tmp_path, name, steps, switch) for name in ("first", "second")]
    first, second = (files(run) for run in runs)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert losses(runs[0]) == losses(runs[1])
    facts = json.loads((runs[0] / "model" / "config.json").read_text())["facts"]
    assert facts["deterministic"] == f"cpu, {torch.get_num_threads()} threads, fp32"
    resolved = yaml.safe_load((runs[0] / "resolved.yaml").read_text())
    assert resolved["train"]["deterministic"] is True
    done = sum("critic/loss" in row for row in losses(runs[0]))
    assert done == steps
    measured(f"two trainings of {done} steps: all {len(first)} files the same byte for byte")
