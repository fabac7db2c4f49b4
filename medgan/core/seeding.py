"""A seed for what torch draws from its global generators, without leaving a trace there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Fixes torch's global generators inside and gives them back as they were.

    Initial weights and dropout cannot be handed a generator of their own.

    Args:
        seed: of the CPU's and the device's generator.
        device: where networks run.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
