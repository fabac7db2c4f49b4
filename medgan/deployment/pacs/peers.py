"""Application entities: who may send, and where results go."""

import re
from dataclasses import dataclass

from medgan.core.errors import ConfigError, EnvironmentFailure

_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
"""One to 16 characters of ASCII, without a backslash, and no space at an end."""


@dataclass(frozen=True)
class Peer:
    """A node that takes DICOM objects.

    Attributes:
        title: its AE title.
        host, port: where it listens.
    """

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"

    @classmethod
    def read(cls, text: str) -> "Peer":
        """From `AE@HOST:PORT`.

        Raises:
            ConfigError: E_USAGE.
        """
        title, _, address = text.rpartition("@")
        host, _, port = address.rpartition(":")
        if not (host and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigError(
                "E_USAGE", "--send-to", "is not AE@HOST:PORT", "write it as PACS@127.0.0.1:4242"
            )
        return cls(checked_title(title, "--send-to"), host.strip("[]"), int(port))


def checked_title(title: str, where: str) -> str:
    """An AE title as the standard allows it.

    Args:
        title: as it was given.
        where: the option that gave it.

    Raises:
        ConfigError: E_USAGE.

    Reference: DICOM PS3.5 6.2, AE.
    """
    if not _TITLE.fullmatch(title):
        raise ConfigError(
            "E_USAGE", where, "is no AE title", "give 1 to 16 characters of ASCII, no backslash"
        )
    return title


def printable(title: str) -> str:
    """An AE title of a stranger, for the log and the page."""
    return re.sub(r"[^!-~]", "?", title.strip())[:16] or "(none)"


def check_extra() -> None:
    """Whether the packages of the node, optional dependencies, are there.

    Raises:
        EnvironmentFailure: E_EXTRA.
    """
    try:
        import dicomweb_client  # noqa: F401
        import highdicom  # noqa: F401
        import pynetdicom  # noqa: F401
    except ImportError as error:
        raise EnvironmentFailure(
            "E_EXTRA", (error.name or "a package").partition(".")[0],
            "not installed, and the DICOM node needs it", "run pip install 'medgan[pacs]'",
        ) from None  # fmt: skip
