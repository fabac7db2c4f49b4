"""Checksums of a package, and the texts that all packages hold."""

import json
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from medgan.core.files import sha256_of, write_atomic

SUMS = "SHA256SUMS"
LICENCE = "LICENSE"
USE = "Research use only. Not a medical device; not for diagnosis or treatment."
ROOT = Path(__file__).parents[3]
"""Of the checkout that this package runs from, if it does; else it is full of others' files."""


def checkout() -> Path | None:
    """The checkout that this package runs from."""
    about = ROOT / "pyproject.toml"
    ours = about.is_file() and 'name = "medgan"' in about.read_text(encoding="utf-8")
    return ROOT if ours else None


def contents(folder: Path) -> list[str]:
    """All files of a package but hidden ones and the checksums, with `/`, in order."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = (path for path in found if not any(part.startswith(".") for part in path.parts))
    return sorted(path.as_posix() for path in shown if path.as_posix() != SUMS)


def seal(folder: Path) -> None:
    """Writes `SHA256SUMS` of everything in a package; `sha256sum -c SHA256SUMS` checks it."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in contents(folder)]
    write_atomic(folder / SUMS, "".join(lines))


def write_json(path: Path, values: Any) -> None:  # noqa: ANN401 - JSON
    """Writes JSON with a newline at its end."""
    write_atomic(path, json.dumps(values, indent=1) + "\n")


def licence_text() -> str:
    """The licence of medgan itself, from the checkout or from what was installed."""
    if (root := checkout()) is not None:
        return (root / LICENCE).read_text(encoding="utf-8")
    try:
        found = [file for file in files("medgan") or () if file.name == LICENCE]
    except PackageNotFoundError:
        found = []
    return found[0].read_text() if found else "medgan is under the Apache License 2.0.\n"


def about_licence(facts: dict[str, Any]) -> str:
    """A sentence on the licences of the code and of the model."""
    data = facts.get("data_licence")
    model = f"under that of its data, {data}" if data else "under the terms of whoever trained it"
    return f"The code of medgan is under Apache-2.0 (`{LICENCE}`), the model {model}."
