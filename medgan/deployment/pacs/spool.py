"""The folder of the node: what came in, results on their way, and a record of each study.

Everything is on the disk before it is said to be there, so that a killed node goes on where it
was. Only the owner may enter the folder; names in it are pseudonyms.
"""

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from medgan.core.errors import ConfigError
from medgan.core.files import disk_failure, flush_folder, sweep, write_atomic
from medgan.data.pseudonyms import Pseudonyms
from medgan.deployment.pacs.records import COMPLETE, RECEIVING, RECORD, SCORED, WAITING, Record

log = logging.getLogger(__name__)
STUDIES, INSTANCES, RESULTS = "studies", "instances", "results"
MOST_ATTEMPTS = 12
"""A study whose scoring was broken off this often is refused: it may be what ends the node."""
_SOON, _FIRST_PAUSE = 3, 10.0
"""From so many attempts on a study pauses, for so many seconds, and twice as long each time."""
REMEMBERED_DAYS = 365.0
"""Then the record of a settled study goes, too."""


class Spool:
    """All studies of the node. Methods may be called from several threads.

    Attributes:
        changes: how often a record has changed since the start.

    Args:
        folder: made, readable by the owner only; `locked` by the caller.
        pseudonyms: of the site.
    """

    def __init__(self, folder: Path, pseudonyms: Pseudonyms) -> None:
        self.folder = folder
        self._pseudonyms = pseudonyms
        self._lock = threading.RLock()
        self._studies = folder / STUDIES
        make_private(self._studies)
        sweep(folder)
        self._arrived: dict[str, float] = {}
        self._records = {record.study: record for record in self._read()}
        self._open_studies = {one.study for one in self._records.values() if not one.settled}
        self.changes = 0

    def _read(self) -> Iterator[Record]:
        for folder in sorted(self._studies.iterdir()):
            files = _count(folder / INSTANCES)
            record = Record.read(folder)
            if record is None:  # killed between the first file and its record, or damaged
                if not files:
                    continue
                record = Record(folder.name, begun=time.time(), changed=time.time())
            if record.deleted:
                self._delete_files(record.study)
            elif record.stage == RECEIVING:
                # Its peer may go on sending, so that quiet time begins anew.
                self._arrived[record.study] = time.monotonic()
                record.instances = files
            yield record

    @contextmanager
    def changing(self, study: str) -> Iterator[Record]:
        """The record of a study, to be changed; it is saved at the end.

        Raises:
            EnvironmentFailure: E_DISK; the record stays as it was.
        """
        with self._lock:
            record = self._records[study]
            before = deepcopy(vars(record))
            try:
                yield record
                record.changed = time.time()
                record.save(self._studies / study)
            except BaseException:
                vars(record).update(before)
                raise
            self.changes += 1
            if record.settled:
                self._open_studies.discard(study)
            else:
                self._open_studies.add(study)

    def records(self) -> list[Record]:
        """All records, oldest first."""
        with self._lock:
            return sorted(self._records.values(), key=lambda one: (one.begun, one.study))

    def path(self, study: str, file: str = "") -> Path:
        """A file of a study, or its folder."""
        return self._studies / study / file

    def study_of(self, uid: str) -> str:
        """The pseudonym of a study."""
        return self._pseudonyms.case(f"study {uid}")

    def store(self, study_uid: str, instance_uid: str, data: bytes) -> str:
        """Keeps a file; when this returns, it is on the disk.

        A file that is there already, by its UID, changes nothing.

        Args:
            study_uid: of its header.
            instance_uid: likewise.
            data: DICOM, complete with its preamble.

        Returns:
            The pseudonym of the study.

        Raises:
            EnvironmentFailure: E_DISK; nothing is left of the file.
        """
        study = self.study_of(study_uid)
        path = self._instance(study, instance_uid)
        with self._lock:
            if path.exists():
                if study in self._arrived:
                    self._arrived[study] = time.monotonic()
                return study
            make_private(path.parent)
            record = self._records.get(study)
            if record is None or record.stage != RECEIVING or record.deleted:
                self._open(study)
            write_atomic(path, data, private=True)
            self._records[study].instances += 1
            self._arrived[study] = time.monotonic()
        return study

    def holds(self, study_uid: str, instance_uid: str) -> bool:
        """Whether a file is there; `store` says of what."""
        return self._instance(self.study_of(study_uid), instance_uid).exists()

    def _instance(self, study: str, uid: str) -> Path:
        name = hashlib.sha256(f"{study} {uid}".encode()).hexdigest()[:32]
        return self.path(study, f"{INSTANCES}/{name}.dcm")

    def expect(self, study_uid: str, missing: int) -> None:
        """Notes that files of a study are about to be fetched: it is not complete without them.

        Args:
            study_uid: of the header.
            missing: how many files are not here yet.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        study = self.study_of(study_uid)
        with self._lock:
            record = self._records.get(study)
            if record is None or record.stage != RECEIVING or record.deleted:
                make_private(self.path(study, INSTANCES))
                self._open(study)
            with self.changing(study) as record:
                record.missing = missing

    def _open(self, study: str) -> None:
        now = time.time()
        new = study not in self._records
        self._records.setdefault(study, Record(study, begun=now))
        try:
            with self.changing(study) as record:
                record.instances = 0 if record.deleted else record.instances
                record.stage, record.attempts, record.deleted = RECEIVING, 0, False
        except BaseException:
            if new:
                del self._records[study]
            raise
        self._arrived[study] = time.monotonic()
        if not new:
            log.info("%s: more files come", study)

    def complete(self, quiet_seconds: float) -> list[str]:
        """Marks the studies that have got nothing for so long as complete, and names them.

        Those of which the server has more than it has given yet go on waiting.
        """
        found = []
        with self._lock:
            limit = time.monotonic() - quiet_seconds
            for study, arrived in list(self._arrived.items()):
                if arrived <= limit and not self._records[study].missing:
                    with self.changing(study) as record:
                        record.stage = COMPLETE
                    del self._arrived[study]
                    found.append(study)
        return found

    def next_to_score(self, but: Callable[[str], bool]) -> str | None:
        """The complete study that is scored next; those whose scoring was broken off come last.

        A study that ends the node stops the others less and less; one that was only under way when
        the node was killed loses nothing.

        Args:
            but: whether a study is left out for now.
        """
        with self._lock:
            queue = [one for one in self._unsettled(but) if one.stage == COMPLETE]
            now = time.time()  # an earlier one than `changed` where the clock was set back
            queue = [o for o in queue if not 0 <= now - o.changed < pause_of(o.attempts)]
            first = min(queue, key=lambda one: (one.attempts, one.begun), default=None)
            return None if first is None else first.study

    def next_to_send(self, but: Callable[[str], bool]) -> str | None:
        """The oldest study with an object that waits.

        Args:
            but: whether a study is left out for now.
        """
        with self._lock:
            queue = [one for one in self._unsettled(but) if one.waiting]
            first = min(queue, key=lambda one: one.begun, default=None)
            return None if first is None else first.study

    def _unsettled(self, but: Callable[[str], bool]) -> list[Record]:
        return [self._records[study] for study in self._open_studies if not but(study)]

    def waiting(self, study: str) -> list[Path]:
        """The objects of a study that wait to be sent."""
        with self._lock:
            outgoing = self._records[study].outgoing
            return [self.path(study, one.file) for one in outgoing if one.state == WAITING]

    def delete_settled(self, keep_seconds: float) -> None:
        """Deletes the files of studies that were settled so long ago, and very old records."""
        now = time.time()
        for record in self.records():
            with self._lock:
                folder, age = self.path(record.study), now - record.changed
                if age < 0:  # the clock was set back
                    with self.changing(record.study):
                        pass
                if not record.settled or age < keep_seconds:
                    continue
                if not record.deleted:
                    with self.changing(record.study):
                        record.deleted = True
                self._delete_files(record.study)
                if record.stage == SCORED and age > REMEMBERED_DAYS * 86400:
                    (folder / RECORD).unlink(missing_ok=True)
                    shutil.rmtree(folder, ignore_errors=True)
                    del self._records[record.study]
                    self._arrived.pop(record.study, None)

    def _delete_files(self, study: str) -> None:
        for name in (INSTANCES, RESULTS):
            shutil.rmtree(self.path(study, name), ignore_errors=True)


def pause_of(attempts: int) -> float:
    """Seconds that a study waits after so many scorings that did not end."""
    return 0.0 if attempts < _SOON else _FIRST_PAUSE * 2.0 ** (attempts - _SOON)


def refuse_foreign(folder: Path) -> None:
    """Refuses a folder that others use, since it would be closed to them.

    Raises:
        ConfigError: E_OUT.
    """
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    if held - {".lock"} and STUDIES not in held:
        raise ConfigError(
            "E_OUT", "-o", "holds something else than the queue of a node",
            "choose another folder, which only the node uses",
        )  # fmt: skip


def make_private(folder: Path) -> None:
    """Makes a folder that only its owner may enter, and notes it on the disk.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
            flush_folder(one.parent)
        os.chmod(folder, 0o700)
    except OSError as error:
        raise disk_failure(folder, error) from None


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.dcm")) if folder.is_dir() else 0
