"""What a data set says of itself in `dataset.json` or `dataset_description.json`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from medgan.core.errors import DataError
from medgan.core.json_files import read_json

LICENCE_LENGTH = 80
"""Characters of a licence that are kept: enough for a name, too few for prose."""


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """The values of `dataset.json` in a folder.

    Raises:
        DataError: E_DATASET.
    """
    try:
        values = read_json(folder / "dataset.json")
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise DataError("E_DATASET", "dataset.json", "cannot be read as JSON", "correct the file")
    return values


def licence_of(source: Path) -> str:
    """The licence that a Decathlon or BIDS folder names for itself, else nothing."""
    folder = source if source.is_dir() else source.parent
    for name, key in (("dataset.json", "licence"), ("dataset_description.json", "License")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            text = read_json(folder / name)[key]
            return " ".join(str(text).split())[:LICENCE_LENGTH]
    return ""
