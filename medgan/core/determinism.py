"""The same bytes from the same seed: operations in a fixed order, threads in a fixed number.

What a GPU adds up in the order in which its threads happen to end differs in the last bits from run
to run. So do sums on a CPU that has had another number of threads.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medgan.core.errors import EnvironmentFailure
from medgan.core.threads import shared_cores

_WORKSPACE, _FIXED = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
"""cuBLAS reads it when CUDA starts, and computes in a fixed order with either value."""
_REFUSED = re.compile(r"(\w+) does not have a deterministic implementation")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, PyTorch uses operations that give the same bits each time, or refuses.

    Args:
        wanted: False changes nothing.

    Raises:
        EnvironmentFailure: E_DETERMINISTIC where an operation has no such form on this device, or
            where CUDA has started in this process without what fixes its order.
    """
    if not wanted:
        yield
        return
    if os.environ.get(_WORKSPACE) not in _FIXED:
        if torch.cuda.is_initialized():
            raise EnvironmentFailure(
                "E_DETERMINISTIC", "train.deterministic", "CUDA has started in this process before",
                f"begin in a new process, or set {_WORKSPACE}={_FIXED[0]} before",
            )  # fmt: skip
        os.environ[_WORKSPACE] = _FIXED[0]  # stays: CUDA may start inside
    before, cudnn = torch.get_deterministic_debug_mode(), torch.backends.cudnn
    benchmark, fixed = cudnn.benchmark, cudnn.deterministic
    torch.use_deterministic_algorithms(True)
    _set_cudnn(False, True)
    try:
        with shared_cores().fixed():
            yield
    except RuntimeError as error:
        if not (found := _REFUSED.match(str(error))):
            raise
        raise EnvironmentFailure(
            "E_DETERMINISTIC", "train.deterministic",
            f"{found[1]} cannot give the same bits each time on this device",
            "train on a CPU, or without train.deterministic, and report it",
        ) from None  # fmt: skip
    finally:
        torch.set_deterministic_debug_mode(before)
        _set_cudnn(benchmark, fixed)


def _set_cudnn(benchmark: bool, deterministic: bool) -> None:
    torch.backends.cudnn.benchmark = benchmark  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.deterministic = deterministic  # pyright: ignore[reportAttributeAccessIssue]


def in_fixed_order(device: torch.device) -> bool:
    """Whether gradients must be added up in one order, which PyTorch does by itself on a CPU.

    Args:
        device: where they are computed.
    """
    return device.type != "cpu" and torch.are_deterministic_algorithms_enabled()
