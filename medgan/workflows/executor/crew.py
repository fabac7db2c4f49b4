"""Hands tasks to workers, each of which may die or hang at any time."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from medgan.core.errors import EnvironmentFailure
from medgan.data.manifest import Refusal
from medgan.workflows.executor.patience import MOST_HUNG, Patience
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

    def kill(self) -> None:
        """Ends the process at once, whatever it does; what it was given is not answered."""
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

    def wait(self, handles: Iterable[Handle], seconds: float | None) -> Iterable[Handle]:
        """Those that have an answer, one or more; none where there is none within so long."""
        ...


class _Given(NamedTuple):
    """What a worker does, and since when."""

    number: int
    task: Task | None = None
    since: float = 0.0


def work_through(
    crew: Crew, work: Work, tasks: Iterable[Task], patience: Patience
) -> Iterator[Done]:
    """Hands out tasks one by one; those of a worker that dies are handed out again, at the end.

    A worker that takes longer than the patience lasts is killed. Its task is handed out once more;
    then it is refused with E_HUNG.

    Raises:
        EnvironmentFailure: E_WORKER where workers do not live long enough to begin.
        MedganError: whatever a worker raises.
    """
    queue = deque(suspects_last(work, tasks))
    workers = list(crew.workers)[: len(queue)]
    deaths = 0
    waiting = {worker.begin(): _Given(number) for number, worker in enumerate(workers)}
    # A worker that finds no place in the cluster any more may never begin.
    while queue or any(given.task is not None for given in waiting.values()):
        left = [patience.left(given.since) for given in waiting.values() if given.task is not None]
        answered = list(crew.wait(waiting, max(0.0, min(left)) if left else None))
        for handle in answered:
            number, task, since = waiting.pop(handle)
            worker = workers[number]
            try:
                done = worker.result(handle)
            except WorkerDied:
                deaths += 1
                _say(deaths, len(workers), task)
                if task is not None:
                    queue.append(task)
                waiting[worker.begin()] = _Given(number)
                continue
            if done is not None:
                deaths = 0
                patience.done(since)
                yield done
            if queue:
                task = queue.popleft()
                waiting[worker.submit(work, task)] = _Given(number, task, patience.clock())
        for handle, (number, task, since) in [*waiting.items()]:
            if task is None or patience.left(since) > 0 or list(crew.wait([handle], 0)):
                continue
            del waiting[handle]
            minutes = patience.seconds / 60
            workers[number].kill()
            waiting[workers[number].begin()] = _Given(number)
            if patience.hung(task.name):
                yield Done(task, None, _hung(task.name, minutes))
            else:
                log.warning(
                    "a worker has not ended %s after %.3g minutes: it is killed, and the case is "
                    "tried once more", task.name, minutes,
                )  # fmt: skip
                queue.append(task)


def _hung(name: str, minutes: float) -> Refusal:
    return Refusal(
        name, "E_HUNG", f"was not done after {minutes:.3g} minutes, {MOST_HUNG} times",
        "set executor.case_minutes if it takes so long, else leave it out",
    )  # fmt: skip


def _say(deaths: int, workers: int, task: Task | None) -> None:
    if deaths > MOST_DEATHS * workers:
        raise EnvironmentFailure(
            "E_WORKER", "executor.workers", f"workers have died {deaths} times in a row",
            "look for what ends them (memory?), or try --workers 1",
        )  # fmt: skip
    what = f"while it worked on {task.name}" if task else "before it began"
    log.warning("a worker has died %s: it is started again", what)
