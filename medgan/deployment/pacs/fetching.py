"""Looks for new studies over DICOMweb and fetches them into the spool."""

import hashlib
import logging
import threading
from collections.abc import Callable, Container, Iterable

from medgan.core.errors import as_coded
from medgan.deployment.pacs.doors import PeerDown
from medgan.deployment.pacs.records import RECEIVING, SCORED
from medgan.deployment.pacs.spool import Spool
from medgan.deployment.pacs.web import Denied, Instance, WebDoor

log = logging.getLogger(__name__)


def keep_fetching(
    spool: Spool, web: WebDoor, modality: Callable[[], str], days: int, pause: float,
    stop: threading.Event, told: Callable[[str], None] = lambda trouble: None,
) -> None:  # fmt: skip
    """Fetches what is new until it is stopped; troubles are said to the log, each once.

    Args:
        spool: receives the studies.
        web: where they are.
        modality: gives MR or CT.
        days: of which studies are wanted, today the first.
        pause: seconds between two looks.
        stop: ends it.
        told: receives the trouble after each look; empty without any.
    """
    before = ""
    while not stop.is_set():
        trouble = ""
        try:
            fetch_new(spool, web, modality(), days, stop)
        except (PeerDown, Denied) as why:
            trouble = str(why)
        except Exception as error:
            log.debug("%s", web, exc_info=True)
            trouble = str(as_coded(error))
        if trouble and trouble != before:
            log.warning("%s: %s; tried again", web, trouble)
        before = trouble
        told(trouble)
        stop.wait(pause)


def fetch_new(spool: Spool, web: WebDoor, modality: str, days: int, stop: threading.Event) -> None:
    """Fetches the studies that have files which were not fetched yet.

    What the server denies of a study does not stop the others, and is tried again at the next call.
    A study is not complete before all its files are here, whatever breaks off in between. One that
    misses files and is no longer listed is refused.

    Args:
        spool: receives them.
        web: where they are.
        modality: MR or CT.
        days: of which studies are wanted, today the first.
        stop: ends it between two files.

    Raises:
        PeerDown: the server does not answer.
        Denied: it does not give a study, or a file; the last one.
        EnvironmentFailure: E_DISK.
    """
    seen = {record.study: record.fetched for record in spool.records()}
    denied: Denied | None = None
    listed = web.studies(modality, days)
    for uid, told in listed.items():
        study = spool.study_of(uid)
        try:
            instances = web.instances(uid, told)
            digest = _digest(instances)
            if not instances or seen.get(study) == digest:
                continue
            missing = [one for one in instances if not spool.holds(one.study, one.uid)]
            if missing:
                spool.expect(uid, len(missing))
            for one in missing:
                if stop.is_set():
                    return
                spool.store(one.study, one.uid, web.fetch(one))
        except Denied as why:
            denied = why
            continue
        with spool.changing(study) as record:
            record.fetched, record.missing = digest, 0
        log.info("%s: fetched, %d files", study, len(instances))
    _give_up(spool, {spool.study_of(uid) for uid in listed})
    if denied is not None:
        raise denied


def _give_up(spool: Spool, listed: Container[str]) -> None:
    """Refuses the studies that miss files and are no longer listed by their server."""
    for record in spool.records():
        if record.missing and record.stage == RECEIVING and record.study not in listed:
            with spool.changing(record.study):
                record.stage = SCORED
                record.remarks.append("not scored: the server did not give all its files")
            log.warning("%s: the server did not give all its files", record.study)


def _digest(instances: Iterable[Instance]) -> str:
    """Tells whether a study has got other files."""
    return hashlib.sha256("\n".join(sorted(one.uid for one in instances)).encode()).hexdigest()[:32]
