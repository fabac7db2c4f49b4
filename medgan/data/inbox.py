"""A folder that scans come to and go from: which of them are new, which are not complete yet.

What was seen is known by the content of its image files, whatever they are called.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medgan.core.errors import DataError
from medgan.core.files import sha256_of, write_atomic
from medgan.core.json_files import read_json
from medgan.data.index import Found
from medgan.data.layouts.listed import Listed
from medgan.data.manifest import Refusal

INCOMPLETE = frozenset({"E_EMPTY", "E_TRUNCATED", "E_CHECKSUM", "E_SLICE_GAP", "E_MANIFEST"})
"""Codes of what a scan may be refused for whose copying has stopped on the way."""


@dataclass(frozen=True)
class Look:
    """A scan of the folder as it is now.

    Attributes:
        case, subject: pseudonyms.
        files: that it consists of.
        state: hash of their names, sizes and times.
        digest: hash of the content of its image files; of the state where they cannot be read.
        series: whether it is a DICOM series.
    """

    case: str
    subject: str
    files: tuple[Path, ...]
    state: str
    digest: str
    series: bool


@dataclass(frozen=True)
class Seen:
    """What became of a content.

    Attributes:
        outcome: `scored`, `copy` of a scored scan, `ignored` (DICOM that is no scan), `refused`, or
            `waiting`, which is tried once more.
        case, code, what, remedy: of the refusal, or why it waits.
        subject: pseudonym.
        file: where it was.
    """

    outcome: str
    case: str = ""
    code: str = ""
    what: str = ""
    remedy: str = ""
    subject: str = ""
    file: str = ""


class Inbox:
    """What a folder held when it was looked at, in a file that only its owner may read.

    Without that file everything counts as new.

    Args:
        path: of the file.
        settle_seconds: a file that was written since then is still being written.
    """

    def __init__(self, path: Path, settle_seconds: float) -> None:
        self._path, self._settle = path, settle_seconds
        known = _read(path)
        self._digests: dict[str, str] = known.get("digests", {})
        self._seen = {digest: Seen(**one) for digest, one in known.get("seen", {}).items()}
        self._new: dict[str, Look] = {}
        self._looked: dict[str, Look] = {}
        self.waiting: list[Seen] = []
        self.copies = 0

    def choose(self, found: Sequence[Found]) -> list[Found]:
        """The scans whose content is new and that nobody writes to any more.

        The others are noted: `waiting` says why, `copies` counts contents that are there twice.
        """
        chosen, digests = [], set()
        quiet = _Quiet(self._settle)
        for one in found:
            listed, case, subject = one
            files = _files(listed)
            if written := quiet.unsettled(files, listed.series is not None):
                self.waiting.append(_waits(case, written, subject, files))
                continue
            look = self._look(listed, case, subject, files)
            if look.digest in digests:
                self.copies += 1
            elif self._outcome(look.digest) in ("", "waiting"):
                if case in self._new:
                    why = "another new scan has this name, too"
                    self.waiting.append(_waits(case, why, subject, files))
                    continue
                self._new[case] = look
                chosen.append(one)
            self._looked[look.state] = look
            digests.add(look.digest)
        return chosen

    def _look(self, listed: Listed, case: str, subject: str, files: tuple[Path, ...]) -> Look:
        state = _state(files)
        digest = self._digests.get(state) or _digest(listed, state)
        return Look(case, subject, files, state, digest, listed.series is not None)

    def _outcome(self, digest: str) -> str:
        return self._seen[digest].outcome if digest in self._seen else ""

    def new(self, case: str) -> Look | None:
        """How a scan that was chosen looked; None for a phase of a 4D file."""
        return self._new.get(case)

    def changed(self, case: str) -> bool:
        """Whether a file of a chosen scan is not as it was when it was chosen."""
        look = self._new.get(case)
        return look is not None and _state(look.files) != look.state

    def wait(self, case: str, why: str) -> None:
        """Leaves a scan for the next time."""
        look = self._new.pop(case, None)
        if look is not None:
            self._looked.pop(look.state, None)
            self.waiting.append(_waits(case, why, look.subject, look.files))

    def done(self, case: str, outcome: str) -> None:
        """Notes that a chosen scan needs no other look as long as its content is the same."""
        look = self._new.get(case)
        if look is not None:
            self._seen[look.digest] = Seen(outcome, case)

    def ignore_others(self, cases: set[str]) -> None:
        """Notes chosen scans that are neither cases nor refused: DICOM that is no scan.

        Args:
            cases: pseudonyms of the scans that are to be scored, and of 4D files.
        """
        for case, look in self._new.items():
            if case not in cases and look.digest not in self._seen:
                self.done(case, "ignored")

    def scored(self, digest: str) -> None:
        """Notes a content of which there is a score, whatever the file says."""
        if digest and self._outcome(digest) != "scored":
            self._seen[digest] = Seen("scored")

    def refuse(self, refusal: Refusal) -> bool:
        """Notes a refusal; False where the copying may have stopped, so that it is not told yet.

        Such a scan waits once. It is refused if it is the same at the next look.
        """
        look = self._new.get(refusal.case)
        if look is None:
            return True
        again = self._outcome(look.digest) == "waiting"
        outcome = "refused" if again or refusal.code not in INCOMPLETE else "waiting"
        file = str(look.files[0]) if look.files else ""
        self._seen[look.digest] = Seen(
            outcome, refusal.case, refusal.code, refusal.what, refusal.remedy, look.subject, file
        )
        if outcome == "waiting":
            why = f"{refusal.code}: {refusal.what}"
            self.waiting.append(_waits(refusal.case, why, look.subject, look.files))
        return outcome == "refused"

    @property
    def refused(self) -> list[Seen]:
        """All scans of the folder that were refused, now or before."""
        here = {look.digest for look in self._looked.values()}
        found = (self._seen[digest] for digest in sorted(here & self._seen.keys()))
        return sorted((one for one in found if one.outcome == "refused"), key=lambda one: one.case)

    @property
    def held(self) -> int:
        """How many scans the folder holds, those that wait included."""
        return len(self._looked) + len(self.waiting)

    def save(self) -> None:
        """Writes down what was seen.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        digests = {state: look.digest for state, look in sorted(self._looked.items())}
        seen = {digest: asdict(one) for digest, one in sorted(self._seen.items())}
        text = json.dumps({"digests": digests, "seen": seen}, indent=1)
        if not self._path.is_file() or self._path.read_text(encoding="utf-8") != text:
            write_atomic(self._path, text, private=True)


def _waits(case: str, why: str, subject: str, files: Sequence[Path]) -> Seen:
    file = str(files[0]) if files else ""
    return Seen("waiting", case, what=why, subject=subject, file=file)


class _Quiet:
    """Whether files were left alone for some seconds; each folder is looked at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since = seconds, time.time() - seconds
        self._folders: dict[Path, float] = {}

    def unsettled(self, files: Iterable[Path], series: bool) -> str:
        """Why files may still be written to; empty where they are not.

        Args:
            files: of a scan.
            series: whether any file in their folders counts, as more slices may come.
        """
        try:
            last = max((_written(path) for path in files), default=0.0)
        except OSError:
            return "a file went away"
        if series:
            last = max([last, *(self._newest(folder) for folder in {p.parent for p in files})])
        if last <= self._since or not self._seconds:
            return ""
        what = "its folder" if series else "it"
        return f"{what} was written to less than {self._seconds:g} s ago"

    def _newest(self, folder: Path) -> float:
        if folder not in self._folders:
            times = [0.0]
            for path in folder.iterdir():
                try:
                    times.append(_written(path))
                except OSError:
                    continue
            self._folders[folder] = max(times)
        return self._folders[folder]


def _written(path: Path) -> float:
    """When a file was last written to, also by a copy that keeps the time of its source."""
    state = path.stat()
    return state.st_ctime if os.name == "posix" else state.st_mtime


def _files(listed: Listed) -> tuple[Path, ...]:
    images = list(listed.images.values())
    if listed.series is not None:
        images = list(dict.fromkeys(frame.path for frame in listed.series.frames))
    return (*images, *([listed.label] if listed.label else []))


def _state(files: Iterable[Path]) -> str:
    """Hash of names, sizes and times; `gone` where a file is missing."""
    found = []
    try:
        for path in files:
            state = path.stat()
            found.append([str(path), state.st_size, state.st_mtime_ns])
    except OSError:
        return "gone"
    return _hash(found)


def _digest(listed: Listed, state: str) -> str:
    """Hash of the content of the images; a label map and covariates do not count."""
    files = [path for path in _files(listed) if path != listed.label]
    try:
        found = [sha256_of(path) for path in files]
    except OSError:
        return _hash(["unreadable", state])
    if listed.series is not None:
        found.sort()
    return _hash([found, list(listed.missing), "" if files else listed.name])


def _hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode(errors="surrogateescape")).hexdigest()


def _read(path: Path) -> dict[str, dict]:
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
        for one in found["seen"].values():
            Seen(**one)
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            "E_INBOX", path.name, "cannot be read",
            "delete it: every scan is looked at again, and none is scored twice",
        ) from None  # fmt: skip
