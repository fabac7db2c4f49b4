"""The reader of JSON that others could have written."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """What a file holds.

    Raises:
        OSError: where it cannot be read.
        ValueError: where it is no JSON in UTF-8 or is nested too deeply.
    """
    return parse_json(path.read_text(encoding="utf-8-sig"))


def read_json_object(path: Path) -> dict[str, Any]:
    """What a file holds that must be an object.

    Raises:
        OSError: where it cannot be read.
        ValueError: where it is no JSON object.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """The value of a text.

    Raises:
        ValueError: where it is no JSON or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
