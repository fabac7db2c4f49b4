"""Threads that compute: as many as there are cores which no other program keeps busy.

A network's layers wait for the slowest of their threads. On two cores of which one is busy, two
threads are several times as slow as one.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import psutil

from medgan.core.launched import launched
from medgan.core.system import core_limit

log = logging.getLogger(__name__)
_ITK = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"
_SHORTEST = 0.5
"""Seconds below which nothing can be said about the cores."""


class SharedCores:
    """Leaves cores that others use to them, as measured from one call to the next.

    OMP_NUM_THREADS says how many threads there shall be where it is set, and
    ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS for SimpleITK, whose registration waits even more: with two
    threads on two busy cores it took seven times as long as with one. Programs of low
    priority (`nice`) count like any others: Linux lets them give way only within their own session.
    Processes that train together have equal shares of all cores, whatever else runs: they could not
    tell each other from strangers.
    """

    def __init__(self) -> None:
        self._cores = _own_cores()
        self._threads = len(self._cores)
        self.most = min(len(self._cores), core_limit())
        self._itk = _ITK not in os.environ
        self._fixed = False
        self._measured = self._measure()

    def share(self) -> int:
        """Sets the number of threads of PyTorch and SimpleITK for what follows.

        Returns:
            Threads.
        """
        if "OMP_NUM_THREADS" in os.environ:
            os.environ.setdefault(_ITK, os.environ["OMP_NUM_THREADS"].split(",")[0])
            return self._threads
        if self._fixed:
            return self._threads
        together = launched().local_ranks
        if together > 1:
            return self._set(max(1, self.most // together))
        now = self._measure()
        seconds, busy, own = (a - b for a, b in zip(now, self._measured, strict=True))
        if seconds < _SHORTEST:
            return self._threads
        self._measured = now
        others = max(0.0, busy - own) / seconds
        return self._set(max(1, min(self.most, len(self._cores) - math.floor(others + 0.5))))

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """Inside, computes on one number of threads, whatever else runs: that of all cores.

        Sums of as many threads are the same bits each time.
        """
        together = launched().local_ranks
        if "OMP_NUM_THREADS" not in os.environ:
            self._set(max(1, self.most // together))
        self._fixed = True
        try:
            yield
        finally:
            self._fixed = False

    def _set(self, threads: int) -> int:
        if threads != self._threads:
            import torch  # only where it is needed: it takes seconds

            torch.set_num_threads(threads)
            if self._itk:
                _set_itk(threads)
            log.info("computes on %d of %d cores: so many are free", threads, len(self._cores))
            self._threads = threads
        return threads

    def _measure(self) -> tuple[float, float, float]:
        """Time, and processor seconds of these cores and of this program with its children."""
        each = psutil.cpu_times(percpu=True)
        used = [each[core] for core in self._cores if core < len(each)]
        busy = sum(core.user + getattr(core, "nice", 0.0) + core.system for core in used)
        return time.monotonic(), busy, _own_seconds()


def _set_itk(threads: int) -> None:
    """For what SimpleITK does from now on, whether or not it has been imported."""
    os.environ[_ITK] = str(threads)
    if loaded := sys.modules.get("SimpleITK"):
        loaded.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


@cache
def shared_cores() -> SharedCores:
    """Those of this program."""
    return SharedCores()


def _own_cores() -> list[int]:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _own_seconds() -> float:
    """Processor seconds of this program and its children, living and ended."""
    myself, total = psutil.Process(), 0.0
    for process in (myself, *myself.children(recursive=True)):
        with suppress(psutil.Error):  # it ended just now
            times = process.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    return total
