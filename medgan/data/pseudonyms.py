"""Public names for cases and subjects: keyed hashes that only this site can make."""

import csv
import hashlib
import hmac
import io
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medgan.core.errors import EnvironmentFailure
from medgan.core.files import write_atomic

PRIVATE_KEY = "private_key.csv"
"""File that leads from pseudonyms back to files; only its owner may read it."""


@dataclass(frozen=True)
class Pseudonyms:
    """Makes pseudonyms that stay the same on this site and mean nothing elsewhere.

    Attributes:
        salt: secret of the site.

    Example:
        >>> Pseudonyms(b"salt").subject("DOE^JANE")
        's-ea63ae0ac3'
    """

    salt: bytes

    def subject(self, name: str) -> str:
        """`s-` and ten hexadecimal digits."""
        return f"s-{self._digest('subject', name)}"

    def case(self, name: str) -> str:
        """`c-` and ten hexadecimal digits."""
        return f"c-{self._digest('case', name)}"

    def _digest(self, kind: str, name: str) -> str:
        text = f"{kind}\0{name}".encode(errors="surrogateescape")  # file names may be no UTF-8
        return hmac.new(self.salt, text, hashlib.sha256).hexdigest()[:10]

    @classmethod
    def of_site(cls) -> "Pseudonyms":
        """With the secret in the user's configuration folder, made on first use.

        Raises:
            EnvironmentFailure: E_SALT when the folder cannot be written.
        """
        path = salt_file()
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".salt.{secrets.token_hex(8)}")
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
                    file.write(secrets.token_hex(32))
                try:
                    os.link(temporary, path)  # fails if another process was first
                except FileExistsError:
                    pass
                except OSError:  # a disk without links, such as FAT
                    if not path.exists():
                        temporary.replace(path)
                finally:
                    temporary.unlink(missing_ok=True)
            salt = bytes.fromhex(path.read_text())
            if len(salt) < 32:
                raise ValueError("cut short")
            return cls(salt)
        except (OSError, ValueError):
            raise EnvironmentFailure(
                "E_SALT",
                "medgan/salt",
                "the site's secret cannot be kept",
                "make the folder writable",
            ) from None


def salt_file() -> Path:
    """Where the site's secret is, or will be."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "medgan" / "salt"


def write_private_key(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Writes case, subject and file, readable by the owner only."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("case", "subject", "file"))
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode(errors="surrogateescape"), private=True)
