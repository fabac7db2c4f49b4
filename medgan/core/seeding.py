"""Seeding of the global random generators of torch, which are restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the global generators of torch inside, and restores them afterwards.

    Initial weights and dropout accept no generator of their own.

    Args:
        seed: of the CPU's and the device's generator.
        device: where networks run.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
