"""Workers on a Ray cluster: actors that load the model once."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any

from medgan.core.errors import EnvironmentFailure
from medgan.model.model import Model
from medgan.workflows.executor.crew import WorkerDied, work_through
from medgan.workflows.executor.patience import Patience
from medgan.workflows.executor.records import Task
from medgan.workflows.executor.work import Done, ModelAt, Work, attempt

log = logging.getLogger(__name__)
SECONDS_TO_ANSWER = 10.0


def import_ray() -> ModuleType:
    """Ray, which sends nothing about its use to anybody.

    Raises:
        EnvironmentFailure: E_EXTRA without Ray.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray of 2.5x warns that this will become its default.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise EnvironmentFailure(
            "E_EXTRA", "ray", "not installed, and --engine ray needs it",
            "run pip install 'medgan[ray]', or take --engine local",
        ) from None  # fmt: skip
    return ray


class OnRay:
    """Actors of a Ray cluster. To be used as a context manager.

    Args:
        workers: how many; 0 takes all cores or GPUs of the cluster.
        model: for all, in a folder that all machines share.
        address: of the cluster; empty takes RAY_ADDRESS, else starts Ray on this machine.
        gpus_each: share of a GPU for each worker, where the device is `cuda`.
        case_minutes: that a case may take; 0 takes a limit from those that are done.

    Raises:
        EnvironmentFailure: E_EXTRA without Ray, E_RAY when the cluster does not answer.
    """

    def __init__(
        self,
        workers: int,
        model: ModelAt,
        address: str = "",
        gpus_each: float = 1.0,
        case_minutes: float = 0.0,
    ) -> None:
        self._patience = Patience(case_minutes)
        self._ray = import_ray()
        self._ours = not self._ray.is_initialized()
        address = address or os.environ.get("RAY_ADDRESS", "")
        if self._ours:
            self._connect(address, workers)
        gpus = gpus_each if model.device == "cuda" else 0.0
        workers = workers or self._room(gpus)
        actor = self._ray.remote(max_restarts=0, num_cpus=1, num_gpus=gpus)(_Actor)
        self._workers = [_Worker(self._ray, actor, model) for _ in range(workers)]

    def _connect(self, address: str, workers: int) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not address:
            quiet |= {"include_dashboard": False, "num_cpus": workers or None}
            quiet |= {"_node_ip_address": "127.0.0.1"}  # they listen everywhere all the same
        try:
            if address:
                _reach(address)
            with _own_signals():
                self._ray.init(address=address or "local", **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            log.debug("ray.init", exc_info=True)
            raise EnvironmentFailure(
                "E_RAY", "executor.ray_address", f"no Ray cluster answers ({type(error).__name__})",
                "look with `ray status`, or start one with `ray start --head`",
            ) from None  # fmt: skip

    def _room(self, gpus: float) -> int:
        have = self._ray.cluster_resources()
        return max(1, int(have.get("GPU", 0) / gpus if gpus else have.get("CPU", 1)))

    @property
    def workers(self) -> "Sequence[_Worker]":
        """All of them."""
        return self._workers

    def run(self, work: Work, tasks: Iterable[Task]) -> Iterator[Done]:
        """Each task as soon as it is done; one whose actor dies or hangs is done again."""
        return work_through(self, work, tasks, self._patience)

    def wait(self, handles: Iterable[Any], seconds: float | None) -> Iterable[Any]:
        """The first answers."""
        done, _ = self._ray.wait(list(handles), num_returns=1, timeout=seconds)
        return done

    def __enter__(self) -> "OnRay":
        return self

    def close(self) -> None:
        """Ends the actors."""
        self.__exit__(None, None, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the actors, and Ray where it was started or joined here."""
        for worker in self._workers:
            worker.end()
        if self._ours:
            self._ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray would end the process on SIGTERM; medgan stops in order."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _reach(address: str) -> None:
    """Looks whether anything listens; Ray by itself waits for minutes.

    Raises:
        OSError: if nothing does.
    """
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()


class _Worker:
    """One actor, made again when it has died."""

    def __init__(self, ray: ModuleType, actor: Any, model: ModelAt) -> None:  # noqa: ANN401
        self._ray, self._actor, self._model = ray, actor, model
        self._handle: Any = None
        self._begun = self.begin()

    def begin(self) -> Any:  # noqa: ANN401 - an object of Ray
        """Starts the actor, unless it runs, and loads the model."""
        if self._handle is None:
            self._handle = self._actor.remote(self._model)
            self._begun = self._handle.load.remote()
        return self._begun

    def submit(self, work: Work, task: Task) -> Any:  # noqa: ANN401 - an object of Ray
        """Gives it a task."""
        return self._handle.work.remote(work, task)

    def kill(self) -> None:
        """Ends the actor at once."""
        self.end()

    def result(self, handle: Any) -> Done | None:  # noqa: ANN401 - an object of Ray
        """What it answered."""
        try:
            found = self._ray.get(handle)
        except self._ray.exceptions.RayActorError:
            self.end()
            raise WorkerDied from None
        if isinstance(found, BaseException):
            raise found
        return found if isinstance(found, Done) else None

    def end(self) -> None:
        """Ends the actor."""
        if self._handle is not None:
            self._ray.kill(self._handle)
            self._handle = None


class _Actor:
    """What runs in a process of the cluster."""

    def __init__(self, model: ModelAt) -> None:
        # One core each, as Ray was told; SimpleITK would take all.
        os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
        self._at, self._model = model, None

    def load(self) -> BaseException | None:
        """Loads the model; gives what went wrong."""
        try:
            self._model = self._at.load()
        except Exception as error:
            return error
        return None

    def work(self, work: Work, task: Task) -> Done | BaseException:
        """Does a task; gives what went wrong."""
        assert isinstance(self._model, Model)
        try:
            return attempt(work, self._model, task)
        except Exception as error:
            return error
