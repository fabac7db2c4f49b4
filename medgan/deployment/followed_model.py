"""A model that follows an alias of the register, for services that run for months."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple

from medgan.core.errors import CodedError, as_coded
from medgan.model.model import Model
from medgan.tracking.loading import load
from medgan.tracking.versions import follows_alias, version_behind

log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 600.0
"""Seconds until a version that could not be loaded is tried again; doubled after each trial."""


class Current(NamedTuple):
    """The model of one request, which keeps it until its end.

    Attributes:
        model: loaded.
        version: `brain/4` of a registered model; else the first digits of the hash of its weights.
    """

    model: Model
    version: str


@dataclass(frozen=True)
class Following:
    """How the following goes.

    Attributes:
        version: in use.
        loads: how many models were loaded, the first included.
        failed_checks: how often the register could not say what the alias points at.
        failed_loads: how often the version that it points at could not be loaded.
        failure: why the last check or load failed; None once one went well.
    """

    version: str
    loads: int = 1
    failed_checks: int = 0
    failed_loads: int = 0
    failure: CodedError | None = None


class FollowedModel:
    """A model in use; of `models:/name@alias` always the version that the alias points at.

    A thread looks whether the alias has moved. The new version is loaded completely beside the old
    one, then takes its place; requests under way keep the old one. When the check or the load
    fails, the old one stays, and the log and `state` say so. A folder, a run's model or a fixed
    version never changes. To be used as a context manager.

    While a new version is loaded, memory holds two models.

    Args:
        uri: a model folder, `models:/name@alias`, `models:/name/3` or `runs:/id/model`.
        tracking_uri: where MLflow keeps its records; empty takes the default of `load`.
        device: of the networks.
        every_s: seconds between two looks at the alias.
        prepare: called with each model before it is used.

    Raises:
        ModelError, EnvironmentFailure: when the first model cannot be loaded.
    """

    def __init__(
        self, uri: str, tracking_uri: str = "", device: str = "cpu", every_s: float = 5.0,
        prepare: Callable[[Current], None] = lambda current: None,
    ) -> None:  # fmt: skip
        self._uri, self._tracking_uri, self._device = uri, tracking_uri, device
        self._every_s, self._prepare = every_s, prepare
        self._checking = threading.Lock()
        self._closed = threading.Event()
        self._pause, self._not_before, self._refused = _FIRST_PAUSE, 0.0, ""
        self._wanted = self._look()
        self._current = self._load(self._wanted)
        self._state = Following(self._current.version)
        self._thread: threading.Thread | None = None

    @property
    def follows(self) -> bool:
        """Whether the model may change."""
        return follows_alias(self._uri)

    @property
    def state(self) -> Following:
        """How the following goes."""
        return self._state

    def current(self) -> Current:
        """The model in use now, and its version; a request asks once and keeps both."""
        return self._current

    def check(self, again: bool = False) -> Following:
        """Looks now whether the alias has moved, and loads what it points at.

        Args:
            again: whether a version that failed is tried at once, without a pause.

        Returns:
            The state afterwards. A failure is in it and is not raised.
        """
        if not self.follows:
            return self._state
        with self._checking:
            self._check(again)
        return self._state

    def _check(self, again: bool) -> None:
        try:
            wanted = self._look()
        except Exception as error:
            checks = self._state.failed_checks + 1
            self._failed("the alias could not be looked up", error, failed_checks=checks)
            return
        if wanted == self._wanted:
            self._state = replace(self._state, failure=None)
            return
        if wanted != self._refused:
            self._pause, self._not_before = _FIRST_PAUSE, 0.0
        elif time.monotonic() < self._not_before and not again:
            return
        try:
            found = self._load(wanted)
        except Exception as error:
            self._refused, self._not_before = wanted, time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            loads = self._state.failed_loads + 1
            self._failed(f"{_name(wanted)} could not be loaded", error, failed_loads=loads)
            return
        before, self._wanted, self._current, self._refused = self._wanted, wanted, found, ""
        loads = self._state.loads + 1
        self._state = replace(self._state, version=found.version, loads=loads, failure=None)
        log.info("model: %s takes the place of %s", found.version, _name(before))

    def _failed(self, what: str, error: Exception, **counts: int) -> None:
        """Notes a failure; says so once, not at every look."""
        failure = as_coded(error)
        if str(failure) != str(self._state.failure) or "failed_loads" in counts:
            log.warning("model: %s (%s); %s stays", what, failure, self._state.version)
        self._state = replace(self._state, failure=failure, **counts)

    def _look(self) -> str:
        """The URI of what is to be loaded."""
        return version_behind(self._uri, self._tracking_uri) if self.follows else self._uri

    def _load(self, uri: str) -> Current:
        model = load(uri, self._tracking_uri, self._device)
        registered = uri.startswith("models:/") and "@" not in uri
        found = Current(model, _name(uri) if registered else model.digest[:12])
        self._prepare(found)
        return found

    def __enter__(self) -> "FollowedModel":
        if self.follows:
            self._thread = threading.Thread(target=self._follow, name="model", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=1)

    def _follow(self) -> None:
        while not self._closed.wait(self._every_s):
            self.check()


def _name(uri: str) -> str:
    """A version without its scheme; a folder, whose name may be a patient's, is not named."""
    return uri.removeprefix("models:/") if uri.startswith("models:/") else "the model"
