"""Hands tasks to workers, each of which may die at any time."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from medgan.core.errors import EnvironmentFailure
from medgan.workflows.executor.records import Task
from medgan.workflows.executor.work import Done, Work, suspects_last

log = logging.getLogger(__name__)
MOST_DEATHS = 5
"""Deaths in a row for each worker, none of which left a case done, after which nothing helps."""
Handle = Any


class WorkerDied(Exception):
    """A worker has ended before it answered."""


class Worker(Protocol):
    """One process with a model, which is started again when it has died."""

    def begin(self) -> Handle:
        """Starts the process, unless it runs, and loads the model; gives what to wait for."""
        ...

    def submit(self, work: Work, task: Task) -> Handle:
        """Gives it a task."""
        ...

    def result(self, handle: Handle) -> Done | None:
        """What it answered; None of a beginning.

        Raises:
            WorkerDied: if it has.
            MedganError: whatever it raised.
        """
        ...


class Crew(Protocol):
    """Workers of one kind."""

    @property
    def workers(self) -> Sequence[Worker]:
        """All of them."""
        ...

    def wait(self, handles: Iterable[Handle]) -> Iterable[Handle]:
        """Those that have an answer, one or more."""
        ...


def work_through(crew: Crew, work: Work, tasks: Iterable[Task]) -> Iterator[Done]:
    """Hands out tasks one by one; those of a worker that dies are handed out again, at the end.

    Raises:
        EnvironmentFailure: E_WORKER where workers do not live long enough to begin.
        MedganError: whatever a worker raises.
    """
    queue = deque(suspects_last(work, tasks))
    workers = list(crew.workers)[: len(queue)]
    deaths = 0
    waiting: dict[Handle, tuple[int, Task | None]] = {}
    for number, worker in enumerate(workers):
        waiting[worker.begin()] = number, None
    # A worker that finds no place in the cluster any more may never begin.
    while queue or any(task is not None for _, task in waiting.values()):
        for handle in list(crew.wait(waiting)):
            number, task = waiting.pop(handle)
            worker = workers[number]
            try:
                done = worker.result(handle)
            except WorkerDied:
                deaths += 1
                _say(deaths, len(workers), task)
                if task is not None:
                    queue.append(task)
                waiting[worker.begin()] = number, None
                continue
            if done is not None:
                deaths = 0
                yield done
            if queue:
                task = queue.popleft()
                waiting[worker.submit(work, task)] = number, task


def _say(deaths: int, workers: int, task: Task | None) -> None:
    if deaths > MOST_DEATHS * workers:
        raise EnvironmentFailure(
            "E_WORKER", "executor.workers", f"workers have died {deaths} times in a row",
            "look for what ends them (memory?), or try --workers 1",
        )  # fmt: skip
    what = f"while it worked on {task.name}" if task else "before it began"
    log.warning("a worker has died %s: it is started again", what)
