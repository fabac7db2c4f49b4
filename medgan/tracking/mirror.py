"""A background thread that keeps MLflow in step with a run folder, and never stops its training.

metrics.jsonl is the truth. The thread sends what MLflow has not got of the folder, in batches, and
tries again for as long as the training runs; the training itself only wakes it.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from medgan.core.errors import EnvironmentFailure
from medgan.tracking.failures import explain, may_pass, no_answer
from medgan.tracking.mlflow import MlflowRun
from medgan.tracking.record import ended_by
from medgan.tracking.sending import Sender, rows_left

log = logging.getLogger(__name__)
SECONDS_AT_START = 3.0
"""That a training waits for the first answer of a server; later ones come while it runs."""
SECONDS_BETWEEN = 2.0
"""Between two requests: each costs the same whether it carries one row or a hundred."""
LONGEST_PAUSE = 30.0
"""Between two tries of a server that does not answer; the first is SECONDS_BETWEEN, each next one
twice as long."""
SECONDS_AT_END = 30.0
"""That a finished training waits for what MLflow has not got yet."""
SECONDS_AT_STOP = 5.0
"""Likewise of one that was asked to stop: whoever asked may kill it soon."""
SECONDS_WITHOUT_ANSWER = 3.0
"""Likewise where a server does not answer: it has had the whole training to do so."""
_SILENT = 10.0
"""Seconds without an answer to one request from which on a server counts as one that gives none."""
_SECONDS_BETWEEN_LAST_TRIES = 1.0


class Mirror:
    """A tracker that copies a training into MLflow; used by `with`.

    Args:
        open_run: opens the MLflow run of the folder.
        folder: of the run.
        later: the command that sends what is missing after the training.
        seconds: to wait for the store to be opened; None waits for as long as that takes.

    Raises:
        ConfigError: E_VALUE when MLflow does not accept a name.
        EnvironmentFailure: E_TRACKING when the store cannot be used; one that does not answer is
            waited for during the training.
    """

    def __init__(
        self,
        open_run: Callable[[], MlflowRun],
        folder: Path,
        later: str,
        seconds: float | None = None,
    ) -> None:
        self._open, self._folder, self._later = open_run, folder, later
        self._run: MlflowRun | None = None
        self._lost = False
        self._sender = Sender(folder)
        self._begun = threading.Event()
        self._refusal: Exception | None = None
        self._news, self._end = threading.Event(), threading.Event()
        self._pictures = True
        self._status = ""
        self._given_up = False
        self._asked = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()
        self._await_start(seconds)

    def _await_start(self, seconds: float | None) -> None:
        """Until the store has answered or refused, or the seconds are over."""
        try:
            self._begun.wait(seconds)
        except BaseException:
            self.finish("KILLED", SECONDS_AT_STOP)
            raise
        if self._refusal is not None:
            raise self._refusal
        if not self._begun.is_set():
            self._begun.set()
            self._lose(no_answer())

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = ended_by(error)
        silent = self._lost or time.monotonic() - self._asked > _SILENT
        at_end = SECONDS_WITHOUT_ANSWER if silent else SECONDS_AT_END
        self.finish(status, SECONDS_AT_STOP if status == "KILLED" else at_end)

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """There is a new row in metrics.jsonl."""
        self._news.set()

    def picture(self, path: Path) -> None:
        """There is a new picture in the folder."""
        self._pictures = True
        self._news.set()

    def rewind(self, volumes_seen: int) -> None:
        """Rows were dropped; MLflow keeps those it has: `train/rollbacks` tells which are void."""
        self._sender.again()

    def finish(self, status: str, seconds: float) -> None:
        """Waits a while for the rest, closes the run, and says so if something is left.

        Args:
            status: FINISHED, FAILED or KILLED.
            seconds: to wait at most.
        """
        self._status = status
        self._end.set()
        self._news.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._given_up = True
            log.warning(
                "MLflow has not got %d rows of metrics.jsonl, nor the end of the run; once it "
                "answers: %s", rows_left(self._folder), self._later,
            )  # fmt: skip

    def _work(self) -> None:
        pause = SECONDS_BETWEEN
        while not self._given_up:
            ending = self._end.is_set()  # all that was written before is sent below
            self._news.clear()
            try:
                self._send()
                self._asked = math.inf
                if ending and self._run is not None:
                    self._run.finish(self._status)
                if self._lost:
                    self._lost = False
                    log.info("MLflow answers again")
                if ending:
                    return
                pause = SECONDS_BETWEEN
                self._news.wait()
                self._end.wait(pause)
            except Exception as error:
                self._run = None  # opened again: it may be another store by then
                if not self._begun.is_set() and not _may_pass(error):
                    self._refusal = error
                    self._begun.set()
                    return
                self._lose(error)
                self._begun.set()
                if self._end.is_set():
                    time.sleep(_SECONDS_BETWEEN_LAST_TRIES)
                    continue
                self._end.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _send(self) -> None:
        self._asked = time.monotonic()
        if self._run is None:
            self._run = self._open()
            self._begun.set()
            self._sender.again()
            self._pictures = True
        self._sender.metrics(self._run, self._stops)  # first: they need no store of artifacts
        self._sender.settings(self._run)
        if self._pictures and not self._given_up:
            self._pictures = False  # true again once the run is opened anew after a failure
            self._sender.pictures(self._run)

    def _stops(self) -> bool:
        """Asked before each request: whether it is the last one."""
        self._asked = time.monotonic()
        return self._given_up

    def _lose(self, error: Exception) -> None:
        """Says once that the store is out of reach."""
        if not self._lost:
            known = error if isinstance(error, EnvironmentFailure) else explain(error)
            log.warning("%s; the training goes on, and MLflow gets the rest once it answers", known)
        self._lost = True


def _may_pass(error: Exception) -> bool:
    return isinstance(error, EnvironmentFailure) and may_pass(error)
