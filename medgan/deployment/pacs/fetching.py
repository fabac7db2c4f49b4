"""Looks for new studies over DICOMweb and fetches them into the spool."""

import hashlib
import logging
import threading
from collections.abc import Sequence

from medgan.deployment.pacs.doors import Instance, WebDoor
from medgan.deployment.pacs.spool import Spool

log = logging.getLogger(__name__)


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
