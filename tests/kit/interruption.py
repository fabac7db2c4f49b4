"""A training that is stopped in the middle, as by Ctrl-C, and compared with a whole one."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medgan.core.errors import Interrupted
from medgan.training import loop
from medgan.training.steps import average_step


def stop_at(volumes: int, monkeypatch: pytest.MonkeyPatch, train: Callable[[], object]) -> None:
    """Trains until so many volumes are seen, and stops there by SIGTERM."""

    def interrupted(state, schedule):
        average_step(state, schedule)
        if state.volumes_seen == volumes:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "average_step", interrupted)
        with pytest.raises(Interrupted):
            train()


def same_weights(first: Path, second: Path) -> bool:
    """Whether two trainings left the same model, to the last bit."""
    one, two = (load_file(out / "model" / "model.safetensors") for out in (first, second))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
