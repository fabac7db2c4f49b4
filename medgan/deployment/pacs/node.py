"""The node: a listener, a scorer and a sender over one spool."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medgan.anomaly.alarms import require_calibration
from medgan.core.config import PacsConfig, ScoreConfig
from medgan.core.errors import DataError, as_coded, of_scan, require_one_channel
from medgan.core.files import locked
from medgan.core.threads import shared_cores
from medgan.data.dicom.files import quiet_pydicom
from medgan.data.pseudonyms import Pseudonyms
from medgan.deployment.followed_model import FollowedModel
from medgan.deployment.pacs.doors import Door
from medgan.deployment.pacs.fetching import keep_fetching
from medgan.deployment.pacs.listener import Listener, Turned
from medgan.deployment.pacs.page import STATES, write_page
from medgan.deployment.pacs.peers import Peer, check_extra
from medgan.deployment.pacs.quiet import quiet_peers
from medgan.deployment.pacs.records import SCORED
from medgan.deployment.pacs.scoring import Outcome, StudyScorer, modality_of
from medgan.deployment.pacs.sender import Sender
from medgan.deployment.pacs.spool import MOST_ATTEMPTS, Spool, make_private, refuse_foreign
from medgan.deployment.pacs.store import StoreDoor
from medgan.deployment.pacs.web import WebDoor

log = logging.getLogger(__name__)
PAGE = "pacs.html"
_TURNED = 50
"""Newest refusals of peers that the page shows."""
_LOOK = 0.2
"""Seconds between two looks at what is complete."""
_PAUSE = 30.0
"""Seconds until a study is tried again that could not be scored for want of disk, or a model."""
_PAGE_EVERY = 2.0
"""Seconds between two versions of the page."""
_SWEEP_EVERY = 60.0
"""Seconds between two looks at what may be deleted."""


@dataclass(frozen=True)
class NodeSettings:
    """How a node is connected.

    Attributes:
        title: own AE title.
        host, port: where it listens.
        allowed: AE titles that may send; without any it does not listen.
        send_to: takes the results; without it they go to the DICOMweb service.
        dicomweb: URL; empty without one.
        fetch_days: studies of so many days are fetched from there; 0 fetches none.
        timing: the pacs section.
        scoring: the score section.
    """

    title: str
    host: str
    port: int
    allowed: Sequence[str]
    send_to: Peer | None
    dicomweb: str
    fetch_days: int
    timing: PacsConfig
    scoring: ScoreConfig


class Node:
    """Receives, scores and sends until it is stopped.

    Args:
        folder: the spool; patient data, readable by the owner only.
        model: scores the studies.
        settings: how it is connected.
        stop: ends `run`.
    """

    def __init__(
        self, folder: Path, model: FollowedModel, settings: NodeSettings, stop: threading.Event
    ) -> None:
        self._folder, self._model, self._settings = folder, model, settings
        self._stop = stop
        self._turned: deque[Turned] = deque(maxlen=_TURNED)
        self._pseudonyms = Pseudonyms.of_site()
        self._spool = Spool(folder, self._pseudonyms)
        self._web = WebDoor(settings.dicomweb) if settings.dicomweb else None
        self._door: Door = (
            StoreDoor(settings.send_to, settings.title) if settings.send_to else self._needed_web
        )
        self._sender = Sender(self._spool, self._door, stop)
        self._scorer: tuple[str, StudyScorer] | None = None
        self._not_before: dict[str, float] = {}
        self._cores = shared_cores()
        self._trouble = self._not_fetched = ""
        self._told: dict[str, str] = {}
        self._shown: tuple[object, ...] = ()

    @property
    def _needed_web(self) -> WebDoor:
        assert self._web is not None
        return self._web

    def run(self, ready: Callable[[int], None] = lambda port: None) -> dict[str, int]:
        """Works until `stop` is set.

        Args:
            ready: receives the port, once peers may call; 0 where the node does not listen.

        Returns:
            How many studies there are in each state.

        Raises:
            EnvironmentFailure: E_PORT.
        """
        settings, listener = self._settings, None
        if settings.allowed:
            address = (settings.host, settings.port)
            listener = Listener(
                self._spool, settings.title, settings.allowed, address, self._turned
            )
        work = {"scorer": self._score_all, "sender": self._sender.run}
        if settings.fetch_days:
            work["fetcher"] = self._fetch_all
        threads = [threading.Thread(target=one, name=name) for name, one in work.items()]
        try:
            for thread in threads:
                thread.start()
            ready(listener.port if listener else 0)
            self._watch(threads)
        finally:
            self._stop.set()
            if listener is not None:
                listener.close()
            for thread in threads:
                thread.join()
            self._write_page(always=True)
        return self.counts()

    def counts(self) -> dict[str, int]:
        """How many studies there are in each state."""
        found: dict[str, int] = dict.fromkeys(STATES, 0)
        for record in self._spool.records():
            found[record.state] += 1
        return found

    def _watch(self, threads: Sequence[threading.Thread]) -> None:
        """Writes the page and deletes what is old, until `stop` is set or a thread has ended."""
        swept = 0.0
        while not self._stop.wait(_PAGE_EVERY):
            self._write_page()
            if time.monotonic() - swept > _SWEEP_EVERY:
                swept = time.monotonic()
                with self._said("old studies"):
                    self._spool.delete_settled(3600 * self._settings.timing.keep_hours)
            if not all(thread.is_alive() for thread in threads):
                raise RuntimeError("a thread of the node has ended")

    def _write_page(self, always: bool = False) -> None:
        failure = self._model.state.failure
        troubles = {
            "scored": self._trouble, "sent": self._sender.trouble, "fetched": self._not_fetched,
            "model": "" if failure is None else str(failure),
        }  # fmt: skip
        shown = (self._spool.changes, len(self._turned), *troubles.values())
        shown = (*shown, self._turned[-1] if self._turned else None, time.monotonic() // 60)
        if shown == self._shown and not always:
            return
        self._shown = shown
        with self._said("the page"):
            write_page(
                self._folder / PAGE, self._spool.records(), list(self._turned),
                self._model.current().version, self._settings, str(self._door), troubles,
            )  # fmt: skip

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """What goes wrong inside is said to the log, once until it goes well; the node goes on."""
        text = ""
        try:
            yield
        except Exception as error:
            log.debug("%s", what, exc_info=True)
            text = str(as_coded(error))
            if text != self._told.get(what):
                log.warning("%s: %s; tried again", what, text)
        self._told[what] = text

    def _score_all(self) -> None:
        while not self._stop.is_set():
            with self._said("complete studies"):
                for study in self._spool.complete(self._settings.timing.quiet_seconds):
                    log.info("%s: complete", study)
            study = self._spool.next_to_score(self._resting)
            if study is None:
                self._stop.wait(_LOOK)
                continue
            try:
                self._score(study)
                self._not_before.pop(study, None)
                self._trouble = ""
            except Exception as error:
                log.debug("%s", study, exc_info=True)
                trouble = str(as_coded(error))
                if trouble != self._trouble:
                    log.warning("%s: %s; tried again", study, trouble)
                self._trouble = trouble
                self._not_before[study] = time.monotonic() + _PAUSE
                with self._said("the record of a study"), self._spool.changing(study) as record:
                    record.attempts = max(0, record.attempts - 1)  # no fault of the study

    def _resting(self, study: str) -> bool:
        return self._not_before.get(study, 0.0) > time.monotonic()

    def _score(self, study: str) -> None:
        with self._spool.changing(study) as record:
            begun = record.attempts
            record.attempts += 1
            count, known = record.instances, dict(record.series)
        if begun >= MOST_ATTEMPTS:
            why = f"E_CRASH {study}: its scoring was broken off {begun} times; score it by hand"
            self._note(study, count, Outcome("", {}, [], [why]))
            return
        self._cores.share()
        model, version = self._model.current()
        if self._scorer is None or self._scorer[0] != version:
            scorer = StudyScorer(model, version, self._settings.scoring, self._pseudonyms)
            self._scorer = version, scorer
        try:
            with of_scan(study):
                outcome = self._scorer[1].score(self._spool.path(study), known)
        except DataError as error:
            outcome = Outcome("", {}, [], [str(error)])
        self._note(study, count, outcome)

    def _note(self, study: str, count: int, outcome: Outcome) -> None:
        for remark in outcome.remarks:
            log.warning("%s", remark)
        with self._spool.changing(study) as record:
            record.attempts = 0
            record.subject = outcome.subject or record.subject
            record.series.update(outcome.series)
            record.outgoing += outcome.outgoing
            record.remarks = [one for one in record.remarks if one.startswith("E_PEER")]
            record.remarks += outcome.remarks
            if record.instances == count:  # else more have come, and it is scored again
                record.stage = SCORED

    def _fetch_all(self) -> None:
        def modality() -> str:
            return modality_of(self._model.current().model)

        def told(trouble: str) -> None:
            self._not_fetched = trouble

        days, pause = self._settings.fetch_days, self._settings.timing.poll_seconds
        keep_fetching(self._spool, self._needed_web, modality, days, pause, self._stop, told)


def run_node(
    folder: Path, model_uri: str, tracking_uri: str, settings: NodeSettings,
    stop: threading.Event, ready: Callable[[int], None] = lambda port: None,
) -> dict[str, int]:  # fmt: skip
    """Runs a node on a folder until it is stopped.

    Args:
        folder: the spool; one node at a time.
        model_uri: of a calibrated model of one channel.
        tracking_uri: where MLflow keeps its records.
        settings: how it is connected.
        stop: ends it.
        ready: receives the port, once peers may call.

    Returns:
        How many studies there are in each state.

    Raises:
        EnvironmentFailure: E_EXTRA, E_BUSY, E_PORT, E_DISK and those of loading a model.
        ModelError: E_MODEL, E_UNCALIBRATED.
        ConfigError, DataError: E_OUT; E_CHANNEL; E_CALIBRATION.
    """
    check_extra()
    refuse_foreign(folder)
    make_private(folder)
    with locked(folder), quiet_pydicom(), quiet_peers():
        with FollowedModel(model_uri, tracking_uri) as followed:
            model = followed.current().model
            require_one_channel("the DICOM node", model.preprocessing.channels)
            scores = model.needed_calibration.scores
            if settings.scoring.false_alarms:
                require_calibration(len(scores), settings.scoring.false_alarms)
            return Node(folder, followed, settings, stop).run(ready)
