"""What a run has left in a folder, to compare two runs byte for byte."""

from pathlib import Path

APART = {"config.yaml", ".lock"}
"""What names the folder or the executor."""


def contents(folder: Path, *apart: str) -> dict[str, bytes]:
    """Every file but records of work, and but those whose names begin with one of `apart`."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.name not in APART and not name.startswith(("work", *apart)):
            found[name] = path.read_bytes()
    return found
