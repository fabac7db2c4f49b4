"""Files that are label maps by their names, and those that belong to no image."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from medgan.data.layouts.files import stem

log = logging.getLogger(__name__)
LABEL_MARK = re.compile(r"[_-](label|labels|seg|dseg|mask)$", re.IGNORECASE)
LABEL_FOLDERS = ("labels", "labelsTr", "labelsTs")


def without_mark(path: Path) -> str:
    """The name of the image that a label map beside it belongs to."""
    return LABEL_MARK.sub("", stem(path))


def warn_of_unused(labels: Iterable[Path], used: Iterable[Path | None]) -> None:
    """Says how many label maps fit no image; without that, they would be lost silently."""
    if unused := len(set(labels) - set(used)):
        log.warning(
            "E_LABEL_UNUSED: %d label maps fit no image by their names; rename them, or list "
            "images and labels in a CSV", unused,
        )  # fmt: skip
