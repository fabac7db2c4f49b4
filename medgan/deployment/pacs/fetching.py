"""Looks for new studies over DICOMweb and fetches them into the spool."""

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence

from medgan.core.errors import as_coded
from medgan.deployment.pacs.doors import Instance, PeerDown, WebDoor
from medgan.deployment.pacs.spool import Spool

log = logging.getLogger(__name__)


def keep_fetching(
    spool: Spool, web: WebDoor, modality: Callable[[], str], days: int, pause: float,
    stop: threading.Event,
) -> None:  # fmt: skip
    """Fetches what is new until it is stopped; troubles are said to the log, each once.

    Args:
        spool: receives the studies.
        web: where they are.
        modality: gives MR or CT.
        days: of which studies are wanted, today the first.
        pause: seconds between two looks.
        stop: ends it.
    """
    before = ""
    while not stop.is_set():
        trouble = ""
        try:
            fetch_new(spool, web, modality(), days, stop)
        except PeerDown as down:
            trouble = str(down)
        except Exception as error:
            log.debug("%s", web, exc_info=True)
            trouble = str(as_coded(error))
        if trouble and trouble != before:
            log.warning("%s: %s; tried again", web, trouble)
        before = trouble
        stop.wait(pause)


def fetch_new(spool: Spool, web: WebDoor, modality: str, days: int, stop: threading.Event) -> None:
    """Fetches the studies that have files which were not fetched yet.

    Args:
        spool: receives them.
        web: where they are.
        modality: MR or CT.
        days: of which studies are wanted, today the first.
        stop: ends it between two files; the next call begins the study anew.

    Raises:
        PeerDown: the server does not answer.
        EnvironmentFailure: E_DISK.
    """
    seen = {record.study: record.fetched for record in spool.records()}
    for uid, instances in web.studies(modality, days).items():
        study, digest = spool.study_of(uid), _digest(instances)
        if not instances or seen.get(study) == digest:
            continue
        for one in instances:
            if stop.is_set():
                return
            spool.store(one.study, one.uid, web.fetch(one))
        with spool.changing(study) as record:
            record.fetched = digest
        log.info("%s: fetched, %d files", study, len(instances))


def _digest(instances: Sequence[Instance]) -> str:
    """Tells whether a study has got other files."""
    return hashlib.sha256("\n".join(sorted(one.uid for one in instances)).encode()).hexdigest()[:32]
