"""Who may do what: bearer tokens with two roles, of which a private file holds the hashes."""

import hashlib
import hmac
import logging
import os
import re
import secrets
from pathlib import Path
from typing import NamedTuple

from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.core.files import write_atomic

log = logging.getLogger(__name__)
READER, OPERATOR = "reader", "operator"
ROLES = (READER, OPERATOR)
"""A reader scores, generates and reads own results; an operator also reads those of others and the
metrics, and loads the model again."""
_LINE = re.compile(r"([\w.-]{1,64})\s+(reader|operator)\s+([0-9a-f]{64})")


class User(NamedTuple):
    """Whom a token belongs to.

    Attributes:
        name: for the log; of a person or a program, never a patient.
        role: one of `ROLES`.
    """

    name: str
    role: str


LOCAL = User("local", OPERATOR)
"""Everybody, on a server without tokens, which listens on the loopback address only."""


class Tokens:
    """The users of a file: a line each, with a name, a role and the SHA-256 of the token.

    A changed file counts from the next request on. One that is damaged, gone or readable by others
    lets nobody in until it is mended.

    Raises:
        EnvironmentFailure: E_TOKENS.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._users = read_tokens(path)

    def user_of(self, token: str) -> User | None:
        """Whose token this is; None for nobody's. All hashes are compared, in constant time."""
        self._refresh()
        given = _hash(token)
        found = None
        for digest, user in self._users.items():
            if hmac.compare_digest(digest, given):
                found = user
        return found

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._users = read_tokens(self._path)
            log.info("tokens: read again, %d users", len(self._users))
        except EnvironmentFailure as error:
            self._users = {}
            log.warning("tokens: nobody is let in (%s)", error)


def read_tokens(path: Path) -> dict[str, User]:
    """The users of a file of tokens by the hash of their token.

    Raises:
        EnvironmentFailure: E_TOKENS when it is missing, damaged, or others may read it.
    """
    try:
        found = path.stat()
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise _failure("cannot be read", "make one with --add-token NAME:reader") from None
    if os.name == "posix" and (found.st_mode & 0o077 or found.st_uid != os.geteuid()):
        raise _failure("others than its owner may read it", "run chmod 600 on it, as its owner")
    users = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.partition("#")[0].strip()
        entry = _LINE.fullmatch(line)
        if line and entry is None:
            raise _failure(
                f"line {number} is no user", "write NAME, reader or operator, and a SHA-256"
            )
        if entry is not None:
            users[entry[3]] = User(entry[1], entry[2])
    if not users:
        raise _failure("names nobody", "make one with --add-token NAME:reader")
    return users


def add_token(path: Path, name_and_role: str) -> str:
    """Adds a user to a file, which is made if missing, and makes a token.

    Args:
        path: of the file.
        name_and_role: such as `pacs:reader`.

    Returns:
        The token, which nothing else keeps.

    Raises:
        ConfigError: E_VALUE.
        EnvironmentFailure: E_TOKENS, E_DISK.
    """
    name, _, role = name_and_role.rpartition(":")
    token = secrets.token_urlsafe(32)
    line = f"{name} {role} {_hash(token)}"
    if not _LINE.fullmatch(line):
        raise ConfigError(
            "E_VALUE",
            "--add-token",
            "is no name and role",
            f"give NAME:{READER} or NAME:{OPERATOR}",
        )
    before = ""
    if path.exists():
        if name in {user.name for user in read_tokens(path).values()}:
            raise ConfigError(
                "E_VALUE",
                "--add-token",
                "the file has this name",
                "remove its line or take another",
            )
        before = path.read_text(encoding="utf-8").rstrip("\n") + "\n"
    write_atomic(path, f"{before}{line}\n", private=True)
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[float, ...]:
    """Changes when the file does."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_mode, found.st_ino, found.st_uid


def _failure(what: str, remedy: str) -> EnvironmentFailure:
    return EnvironmentFailure("E_TOKENS", "the file of tokens", what, remedy)
