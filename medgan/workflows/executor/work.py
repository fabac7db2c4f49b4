"""What workers do: one case after another, each recorded, of which a bad one stops none."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from medgan.core.errors import DataError, ModelError, of_scan
from medgan.data.manifest import Refusal
from medgan.model.model import Model
from medgan.workflows.executor.records import CASES, CaseRecords, Task, Values

log = logging.getLogger(__name__)


class Work(Protocol):
    """Work on one case, which can be sent to another process.

    Called with the model and the item of a task, it gives values that JSON has, and the files that
    it wrote, relative to the folder of the results.
    """

    @property
    def records(self) -> CaseRecords:
        """Of what is done."""
        ...

    def __call__(self, model: Any, item: Any) -> tuple[Values, list[str]]:  # noqa: ANN401
        """Does the work, or raises DataError."""
        ...


class Done(NamedTuple):
    """What became of a task.

    Attributes:
        task: that was done.
        values: that it gave; None where it was refused.
        refusal: why.
    """

    task: Task
    values: Values | None
    refusal: Refusal | None = None


class Executor(Protocol):
    """Does tasks, in any order."""

    def run(self, work: Work, tasks: Iterable[Task]) -> Iterator[Done]:
        """Each task as soon as it is done.

        Raises:
            MedganError: what no other case would survive, either, such as E_DISK.
        """
        ...


@dataclass(frozen=True)
class ModelAt:
    """A model folder that every worker can read.

    Attributes:
        folder: absolute.
        digest: of its weights.
        device: for the networks; `cuda` is the GPU that a worker is given.
    """

    folder: Path
    digest: str
    device: str = "cpu"

    def load(self, device: str = "") -> Model:
        """The model, if it is the same as where the work began.

        Raises:
            ModelError: E_MODEL.
        """
        model = Model.load(self.folder, device or self.device)
        if model.digest != self.digest:
            raise ModelError(
                "E_MODEL", "a worker", "finds another model in the folder",
                "give a folder that all machines share",
            )  # fmt: skip
        return model


def attempt(work: Work, model: Model | None, task: Task) -> Done:
    """Does one task and records it, unless that was done before.

    Raises:
        MedganError: what no other case would survive, either, such as E_DISK.
    """
    records = work.records
    if (found := records.find(task)) is not None:
        return Done(task, found)
    try:
        remedy = f"leave it out, or delete work/tries/{task.name} to try it again"
        with records.tries.counted(task.name, remedy):
            with of_scan(task.name):
                values, files = work(model, task.item)
            return Done(task, records.save(task, values, files))
    except DataError as error:
        return Done(task, None, Refusal(task.name, error.code, error.what, error.remedy))


class Here:
    """This process alone.

    Args:
        model: that is loaded already; None for work without one.
    """

    def __init__(self, model: Model | None) -> None:
        self._model = model

    def run(self, work: Work, tasks: Iterable[Task]) -> Iterator[Done]:
        """One task after another; those at which processes have ended come last."""
        for task in suspects_last(work, tasks):
            yield attempt(work, self._model, task)


def suspects_last(work: Work, tasks: Iterable[Task]) -> list[Task]:
    """Tasks in order, but last those at which processes have ended."""
    tries = work.records.tries
    return sorted(tasks, key=lambda task: tries.count(task.name))


def do_all(
    executor: Executor, work: Work, tasks: Sequence[Task], progress: Callable[[int, int], None]
) -> Iterator[Done]:
    """Each task as it is done; first those that an earlier run has done.

    Args:
        executor: does them.
        work: what is done.
        tasks: with names of their own.
        progress: receives the number of tasks done and of all.
    """
    found = [Done(task, work.records.find(task)) for task in tasks]
    left = [one.task for one in found if one.values is None]
    number = 0
    if len(left) < len(tasks) and work.records.kind == CASES:
        log.info("%d of %d were done by an earlier run", len(tasks) - len(left), len(tasks))
    for one in found:
        if one.values is not None:
            number += 1
            yield one
    for one in executor.run(work, left) if left else ():
        number += 1
        yield one
        progress(number, len(tasks))
