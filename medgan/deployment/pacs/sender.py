"""Sends results once: what was answered is noted, what was not is sent again with the same UIDs."""

import logging
import threading
import time
from pathlib import Path

from medgan.core.errors import MedganError
from medgan.deployment.pacs.doors import Door, PeerDown, Unwanted
from medgan.deployment.pacs.records import REFUSED, SENT
from medgan.deployment.pacs.spool import Spool

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""Seconds until a peer that is down is tried again: doubled each time."""
MOST_TRIES = 5
"""An object that a peer refuses this often is not sent any more."""


class Sender:
    """Sends what waits.

    Args:
        spool: with the results.
        door: where they go.
        stop: ends it.
    """

    def __init__(self, spool: Spool, door: Door, stop: threading.Event) -> None:
        self._spool, self._door, self._stop = spool, door, stop
        self._not_before: dict[str, float] = {}
        self.trouble = ""

    def run(self, idle_seconds: float = 0.2) -> None:
        """Sends until `stop` is set."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            study = self._spool.next_to_send(self._resting)
            if study is None:
                self._stop.wait(idle_seconds)
                continue
            trouble = self._send(study)
            if trouble:
                if trouble != self.trouble:
                    log.warning("%s %s; results wait", self._door, trouble)
                self.trouble = trouble
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if self.trouble:
                    log.info("%s is back", self._door)
                self.trouble, pause = "", FIRST_PAUSE

    def _resting(self, study: str) -> bool:
        return self._not_before.get(study, 0.0) > time.monotonic()

    def _send(self, study: str) -> str:
        """Sends the objects of a study; the trouble with the peer or the disk, if any."""
        try:
            self._door.send(
                self._spool.waiting(study), lambda path, why: self._note(study, path, why)
            )
        except PeerDown as down:
            return str(down)
        except MedganError as error:  # a full disk, on which the answer could not be noted
            return f"cannot be served: {error.what}"
        except Exception as error:  # nothing is given up: the study waits, and others go on
            log.debug("%s", study, exc_info=True)
            log.warning("%s: not sent (%s); tried again", study, type(error).__name__)
            self._not_before[study] = time.monotonic() + LONGEST_PAUSE
        return ""

    def _note(self, study: str, path: Path, why: str) -> None:
        with self._spool.changing(study) as record:
            one = next(o for o in record.outgoing if self._spool.path(study, o.file) == path)
            if not why:
                one.state = SENT
            else:
                one.tries += 1
                if isinstance(why, Unwanted) or one.tries >= MOST_TRIES:
                    one.state = REFUSED
                    record.remarks.append(f"E_PEER {study}: {one.kind} not sent; {why}")
                    log.warning("%s: %s not sent; %s", study, one.kind, why)
                else:
                    pause = min(FIRST_PAUSE * 2**one.tries, LONGEST_PAUSE)
                    self._not_before[study] = time.monotonic() + pause
            done = record.settled
        if done:
            self._not_before.pop(study, None)
            log.info("%s: sent", study)
