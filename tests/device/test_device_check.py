"""torch's fake tensors know no gradient of a card where torch was built without CUDA."""

import pytest

from medgan.app import device_check
from medgan.app.device_check import kinds, timed_step


@pytest.mark.parametrize(
    "task",
    [
        "restoration",
        *(pytest.param(t, marks=pytest.mark.slow) for t in ("synthesis", "translation")),
    ],
)
def test_the_steps_of_the_check_run_on_a_device(task, device, monkeypatch):
    monkeypatch.setattr(device_check, "_STEPS", 1)
    monkeypatch.setattr(device_check, "convolution_peak", lambda *_: 100.0)
    config, grid = kinds(16, "cpu")[task]
    train = config.train.model_copy(update={"batch": 2})
    row = timed_step(config.model_copy(update={"train": train}), grid, device)
    assert row["volumes_per_second"] > 0
    assert row["gflops"] > 0
