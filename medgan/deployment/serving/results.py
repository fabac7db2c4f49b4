"""Results, kept for a while under ids that cannot be guessed, then deleted."""

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.deployment.serving.refusals import Refused
from medgan.deployment.serving.scratch import remove
from medgan.deployment.serving.tokens import OPERATOR, User


@dataclass(frozen=True)
class Result:
    """What a request has made.

    Attributes:
        id: unguessable.
        owner: name of the user who asked.
        answer: JSON.
        files: by the names under which they are asked for.
        folder: holds them and nothing else.
        until: monotonic seconds.
    """

    id: str
    owner: str
    answer: dict[str, Any]
    files: Mapping[str, Path]
    folder: Path
    until: float


class Results:
    """The results that are there. Safe to be used by several threads.

    Args:
        most: kept at a time; the oldest goes first.
        seconds: after which each is deleted.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._results: dict[str, Result] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._results)

    def new_id(self) -> str:
        """144 random bits."""
        return secrets.token_urlsafe(18)

    def add(
        self, id_: str, owner: str, answer: dict[str, Any], files: Mapping[str, Path], folder: Path
    ) -> None:
        """Keeps a result; its folder belongs to it from here on."""
        result = Result(id_, owner, answer, files, folder, time.monotonic() + self._seconds)
        with self._lock:
            self._results[id_] = result
            gone = list(self._results)[: -self._most]
        for one in gone:
            self._delete(one)

    def get(self, id_: str, user: User) -> Result:
        """The result of this id, if it is the user's own or the user is an operator.

        Raises:
            Refused: E_RESULT, 404, for all others, whether they exist or not.
        """
        found = self._results.get(id_)
        mine = found is not None and (user.role == OPERATOR or found.owner == user.name)
        if found is None or not mine or found.until < time.monotonic():
            raise Refused(
                404, "E_RESULT", "the result", "there is none of this id, or it has expired",
                "send the request again",
            )  # fmt: skip
        return found

    def read(self, id_: str, name: str, user: User) -> bytes:
        """A file of a result.

        Raises:
            Refused: E_RESULT, 404.
        """
        try:
            return self.get(id_, user).files[name].read_bytes()
        except (KeyError, OSError):
            raise Refused(
                404, "E_RESULT", "the result", "it has no such file", "see its links"
            ) from None

    def delete(self, id_: str, user: User) -> None:
        """Deletes a result before its time.

        Raises:
            Refused: E_RESULT, 404.
        """
        self._delete(self.get(id_, user).id)

    def sweep(self) -> None:
        """Deletes what has expired."""
        now = time.monotonic()
        for result in list(self._results.values()):
            if result.until < now:
                self._delete(result.id)

    def _delete(self, id_: str) -> None:
        with self._lock:
            found = self._results.pop(id_, None)
        if found is not None:
            remove(found.folder)
