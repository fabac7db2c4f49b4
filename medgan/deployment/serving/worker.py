"""A bounded queue and the one thread that works on it, because there is one model."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from medgan.deployment.serving.refusals import Refused

log = logging.getLogger(__name__)
Work = Callable[["Job"], Any]


class Job:
    """One piece of work.

    Attributes:
        future: receives what the work gives or raises.
        given_up: whether nobody waits for it any more; long work looks now and then.
    """

    def __init__(self, work: Work, cleanup: Callable[[], None]) -> None:
        self.future: Future[Any] = Future()
        self.given_up = False
        self._work, self._cleanup = work, cleanup

    def run(self) -> None:
        """Does the work, unless it was given up; cleans up before anybody hears of it."""
        wanted, found, failure = self.future.set_running_or_notify_cancel(), None, None
        try:
            found = self._work(self) if wanted else None
        except BaseException as error:
            failure = error
        self.cleanup()
        if failure is not None:
            self.future.set_exception(failure)
        elif wanted:
            self.future.set_result(found)

    def cleanup(self) -> None:
        """Removes what belongs to the work; a failure is no reason to stop."""
        try:
            self._cleanup()
        except Exception as error:
            log.warning("a temporary folder was not removed (%s)", type(error).__name__)


class Worker:
    """The queue. To be used as a context manager; the end waits for what runs.

    Args:
        most_waiting: jobs in the queue, beside the one that runs.
    """

    def __init__(self, most_waiting: int) -> None:
        self._most = most_waiting
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running = self._closed = False
        self._usual_s = 1.0
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._jobs)

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        with self._changed:
            return not self._jobs and not self._running

    def refuse_if_full(self) -> None:
        """Refuses before anything is received.

        Raises:
            Refused: E_QUEUE, 429, with the seconds after which a place may be free.
        """
        if len(self._jobs) >= self._most:
            raise self.full()

    def full(self) -> Refused:
        """429, with the seconds that half of a full queue takes."""
        seconds = str(min(math.ceil(self._usual_s * (self._most + 1) / 2), 600))
        return Refused(
            429, "E_QUEUE", "the server", f"{self._most} requests wait already",
            f"try again in {seconds} seconds", {"Retry-After": seconds},
        )  # fmt: skip

    def submit(self, work: Work, cleanup: Callable[[], None] = lambda: None) -> Job:
        """Puts work into the queue.

        Args:
            work: called in the thread.
            cleanup: called once it is done or was dropped. A refusal does not call it.

        Raises:
            Refused: E_QUEUE.
        """
        with self._changed:
            self.refuse_if_full()
            job = Job(work, cleanup)
            self._jobs.append(job)
            self._changed.notify_all()
        return job

    def drop(self, job: Job) -> None:
        """Nobody waits for a job any more: it leaves the queue, or runs to its end in vain."""
        job.given_up = True
        with self._changed:
            waited = job in self._jobs
            if waited:
                self._jobs.remove(job)
        if waited:
            job.future.cancel()
            job.cleanup()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return
                job, self._running = self._jobs.popleft(), True
            start = time.monotonic()
            job.run()
            self._usual_s += 0.2 * (time.monotonic() - start - self._usual_s)
            del job
            with self._changed:
                self._running = False

    def close(self) -> None:
        """Drops what waits and ends the thread after what runs."""
        for job in list(self._jobs):
            self.drop(job)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
