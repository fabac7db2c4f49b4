"""Worker processes of this machine, each a `ProcessPoolExecutor` of one.

A pool with a dead process is lost with all that was handed to it. With one process a pool, one
case is lost at a time, and it is known which.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from types import TracebackType

import psutil

from medgan.model.model import Model
from medgan.workflows.executor.crew import WorkerDied, work_through
from medgan.workflows.executor.forks import context
from medgan.workflows.executor.patience import Patience
from medgan.workflows.executor.records import Task
from medgan.workflows.executor.work import Done, ModelAt, Work, attempt


class Local:
    """Processes of this machine. To be used as a context manager.

    They begin to load the model at once.

    Args:
        workers: how many.
        model: for all.
        threads: of PyTorch in each.
        case_minutes: that a case may take; 0 takes a limit from those that are done.
    """

    def __init__(
        self, workers: int, model: ModelAt, threads: int, case_minutes: float = 0.0
    ) -> None:
        self._patience = Patience(case_minutes)
        self._workers = [_Process(number, model, threads) for number in range(workers)]

    @property
    def workers(self) -> "Sequence[_Process]":
        """All of them."""
        return self._workers

    def run(self, work: Work, tasks: Iterable[Task]) -> Iterator[Done]:
        """Each task as soon as it is done; one whose process dies or hangs is done again."""
        return work_through(self, work, tasks, self._patience)

    def wait(self, handles: Iterable[Future], seconds: float | None) -> Iterable[Future]:
        """The first answers."""
        return wait(handles, seconds, return_when=FIRST_COMPLETED).done

    def __enter__(self) -> "Local":
        return self

    def close(self) -> None:
        """Ends the processes."""
        self.__exit__(None, None, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the processes, whatever they do: their cases are done by the next run."""
        for worker in self._workers:
            worker.end()


class _Process:
    """One process."""

    def __init__(self, number: int, model: ModelAt, threads: int) -> None:
        self._given = (number, model, threads)
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0
        self._begun = self.begin()

    def begin(self) -> Future:
        """Starts the process, unless it runs, and loads the model."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, context(), _initialise, self._given)
            self._begun = self._submit(_load)
        return self._begun

    def submit(self, work: Work, task: Task) -> Future:
        """Gives it a task."""
        return self._submit(_work, work, task)

    def _submit(self, function: Callable[..., object], *arguments: object) -> Future:
        assert self._pool is not None
        try:
            return self._pool.submit(function, *arguments)
        except BrokenProcessPool as error:  # it has died while it waited
            failed: Future = Future()
            failed.set_exception(error)
            return failed

    def kill(self) -> None:
        """Ends the process at once."""
        if self._pool is None:
            return
        with suppress(psutil.Error):  # it has ended by itself
            psutil.Process(self._pid).kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._pid = None, 0

    def result(self, handle: Future) -> Done | None:
        """What it answered."""
        try:
            found = handle.result()
        except BrokenProcessPool:
            if self._pool is not None:
                self._pool.shutdown(wait=False)
            self._pool, self._pid = None, 0
            raise WorkerDied from None
        if isinstance(found, Done):
            return found
        self._pid = found
        return None

    def end(self) -> None:
        """Ends the process."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        if not self._pid and self._begun.done() and self._begun.exception() is None:
            self._pid = self._begun.result()
        if self._pid:
            with suppress(OSError):  # it has ended by itself
                os.kill(self._pid, signal.SIGTERM)
        pool.shutdown(wait=True, cancel_futures=True)


_given: ModelAt | None = None
_device = ""
_model: Model | None = None
"""Of a worker process."""


def _initialise(number: int, model: ModelAt, threads: int) -> None:
    """Prepares a worker process."""
    global _given, _device
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", str(threads))  # SimpleITK's
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    _given, _device = model, model.device
    if model.device == "cuda":
        _device = f"cuda:{number % torch.cuda.device_count()}"


def _end_with_parent() -> None:
    """A worker whose parent was killed has nobody to answer to."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _load() -> int:
    """Loads the model; gives the number of this process."""
    global _model
    assert _given is not None
    if _model is None:
        _model = _given.load(_device)
    return os.getpid()


def _work(work: Work, task: Task) -> Done:
    assert _model is not None
    return attempt(work, _model, task)
