"""Which of several processes this is, as torchrun says by its environment variables."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Launched:
    """One of several processes that were started together, or the only one.

    Attributes:
        rank: its number among all.
        ranks: how many there are, on all machines.
        local_rank, local_ranks: the same on this machine.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1


def launched() -> Launched:
    """This process."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys() or os.environ["WORLD_SIZE"] == "1":
        return Launched()
    rank, ranks, local_rank, local_ranks = (int(os.environ.get(name, "0")) for name in names)
    return Launched(rank, ranks, local_rank, max(1, local_ranks))
