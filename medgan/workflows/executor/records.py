"""What has become of each case, in a folder of small files: a run that ends anywhere is continued.

A record is written last of all that belongs to its case: what has none was not done. Any number of
processes may work in one folder, each on cases of its own.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.core.errors import DataError
from medgan.core.files import flush, write_atomic
from medgan.core.json_files import read_json

WORK = "work"
"""Folder of what continues a run, in that of its results."""
CASES = "cases"
"""Records of the work itself, beside others such as pages."""
MOST_TRIES = 5
Values = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """Work on one case.

    Attributes:
        name: pseudonym of the case; names its record.
        key: hash of all that decides what it gives.
        item: what is handed to the work.
    """

    name: str
    key: str
    item: Any


class Tries:
    """How often a process has ended, for no reason that it knows, while it worked on a case.

    Args:
        folder: of a file for each case that is being worked on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def count(self, name: str) -> int:
        """Processes that have ended at a case."""
        with suppress(OSError, ValueError):
            return int((self._folder / name).read_text())
        return 0

    @contextmanager
    def counted(self, name: str, remedy: str) -> Iterator[None]:
        """Counts a process that ends inside; none that leaves by an exception.

        Raises:
            DataError: E_CRASH for a case that has ended `MOST_TRIES` of them.
        """
        tries = self.count(name)
        if tries >= MOST_TRIES:
            raise DataError("E_CRASH", name, f"ended the work {tries} times", remedy)
        write_atomic(self._folder / name, str(tries + 1), private=True)
        try:
            yield
        finally:
            (self._folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class CaseRecords:
    """Records of finished cases.

    Attributes:
        folder: of the results.
        kind: of work, where there are several in the folder.
    """

    folder: Path
    kind: str = CASES

    @property
    def tries(self) -> "Tries":
        """Of the cases."""
        return Tries(self.folder / WORK / "tries")

    def find(self, task: Task) -> Values | None:
        """What a task gave, if it was done and its files are there."""
        found = self.read(task.name)
        return found["values"] if found is not None and found["key"] == task.key else None

    def read(self, name: str) -> dict[str, Any] | None:
        """The record of a case: `key`, `files` and `values`; None without one that holds."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = read_json(self._path(name))
            files = found["files"].items()
            if all((self.folder / path).stat().st_size == size for path, size in files):
                return found if {"key", "values"} <= found.keys() else None
        return None

    def save(self, task: Task, values: Values, files: Sequence[str]) -> Values:
        """Writes the record of a task once its files are on the disk.

        Args:
            task: that is done.
            values: that it gave, of types that JSON has.
            files: that it wrote, relative to the folder.

        Returns:
            The values as they will be read.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        for name in files:
            flush(self.folder / name)
        sizes = {name: (self.folder / name).stat().st_size for name in files}
        text = json.dumps({"key": task.key, "files": sizes, "values": values})
        write_atomic(self._path(task.name), text)
        return json.loads(text)["values"]

    def forget(self, name: str) -> None:
        """Removes a record: the case is done again."""
        self._path(name).unlink(missing_ok=True)

    @property
    def names(self) -> list[str]:
        """Of all records."""
        return sorted(path.stem for path in (self.folder / WORK / self.kind).glob("*.json"))

    def keep_only(self, names: Iterable[str], folders: Iterable[str]) -> None:
        """Removes what belongs to no case that is wanted.

        Args:
            names: of the cases whose records and files stay.
            folders: that hold nothing but files of cases.
        """
        kept = set(names)
        for name in set(self.names) - kept:
            self.forget(name)
        found = [self.read(name) for name in kept]
        files = {self.folder / path for one in found if one for path in one["files"]}
        for folder in folders:
            for path in (self.folder / folder).glob("*"):
                if path.is_file() and path not in files:
                    path.unlink()

    def move(self, name: str, to: "CaseRecords") -> None:
        """Moves a record and its files into another folder of the same disk, the record last."""
        source = self._path(name)
        for path in read_json(source)["files"]:
            (to.folder / path).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # moved before this was broken off
                (self.folder / path).replace(to.folder / path)
        to._path(name).parent.mkdir(parents=True, exist_ok=True)
        source.replace(to._path(name))

    def _path(self, name: str) -> Path:
        return self.folder / WORK / self.kind / f"{name}.json"


def hash_of(*values: Any) -> str:  # noqa: ANN401 - anything that JSON has
    """Hash of values, as a key of tasks."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
