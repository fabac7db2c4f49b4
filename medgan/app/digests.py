"""Digests of what steps read and leave."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from medgan.app.folder import ASIDE, RECORD
from medgan.core.files import sha256_of

FILE = ".medgan_done.json"
"""What is known of steps that were done. Readable by the owner only, as the manifest: settings that
a step found out may hold paths."""
_NOT_OUTPUTS = {
    *("cache", "checkpoints", ASIDE, RECORD, FILE, "config.yaml", "refused.csv"),
    *("mlflow_run.txt", "mlflow_sent.json", "tracking.json", ".workers"),
}
"""What may change without a step being out of date."""


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that a step may have left."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder)
        if not _NOT_OUTPUTS.intersection(name.parts) and path.is_file():
            state = path.stat()
            found[name.as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


def fingerprint(paths: Sequence[Path]) -> str:
    """Of files by their content; of folders by the names, sizes and times of their files."""
    found = [
        [str(path), sha256_of(path) if path.is_file() else sorted(files_of(path).items())]
        for path in paths
    ]
    return hash_of(json.dumps(found))


def hash_of(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
