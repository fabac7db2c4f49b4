"""How a process finds the others that torchrun has started."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.core.launched import launched
from medgan.core.ranks import Ranks, others_needed

_STEP, _PATIENCE = timedelta(hours=1), timedelta(days=30)
"""How long a rank waits for the gradients of another, and for what rank 0 does alone."""


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The processes that torchrun has started with this one; alone without it.

    Args:
        device: `train.device`; on CUDA devices each rank of a machine gets one of its own.

    Raises:
        EnvironmentFailure: E_DEVICE when a machine has fewer devices than processes.
    """
    own = launched()
    if own.ranks == 1:
        yield Ranks()
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        if own.local_rank >= torch.cuda.device_count():
            raise EnvironmentFailure(
                "E_DEVICE", "train.device",
                f"{own.local_ranks} processes and {torch.cuda.device_count()} CUDA devices here",
                "start one process a device: --nproc-per-node",
            )  # fmt: skip
        torch.cuda.set_device(own.local_rank)
    with others_needed():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_STEP)
        talk = dist.new_group(backend="gloo", timeout=_PATIENCE)
    yield Ranks(own.rank, own.ranks, own.local_ranks, talk)
    dist.destroy_process_group()  # not after an error: others may wait for what never comes


def require_alone(what: str) -> None:
    """Refuses several processes where only trainings share their work.

    Raises:
        ConfigError: E_RANKS.
    """
    own = launched()
    if own.ranks > 1:
        raise ConfigError(
            "E_RANKS", what, f"does not share its work among {own.ranks} processes",
            "start it without torchrun",
        )  # fmt: skip
