"""Several processes that train together, as torchrun would start them."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch

from medgan.core.joining import joined

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.kit.ranks_imports"])


def on_ranks(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(ranks, ...)` gives in each of so many processes; an exception is a text.

    Args:
        size: processes; they are forked from one that has imported everything.
        work: a function of a module.
        arguments: of it.
    """
    return launch(size, _joined, work, *arguments)


def launch(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(...)` gives in each of so many processes, which have not joined yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = _PROCESSES.SimpleQueue()
    processes = []
    for rank in range(size):
        variables = {**os.environ, **environment(rank, size, port)}
        given = (rank, answers, variables, work, arguments)
        processes.append(_PROCESSES.Process(target=_run, args=given))
    for process in processes:
        process.start()
    found = dict(answers.get() for _ in processes)
    for process in processes:
        process.join()
    return [found[rank] for rank in range(size)]


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun says to a process."""
    return {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def _joined(work, *arguments):
    with joined("cpu") as ranks:
        return work(ranks, *arguments)


def _run(rank, answers, variables, work, arguments) -> None:
    os.environ |= variables
    torch.set_num_threads(1)
    try:
        answer = work(*arguments)
    except BaseException as error:
        answer = f"{type(error).__name__}: {error}"
    answers.put((rank, answer))


def without_a_slope(numbers: torch.Tensor) -> torch.Tensor:
    """0, whose gradient is not a number: a loss stays finite with it, and no weight does."""
    return (0 * numbers.sum()).sqrt()
