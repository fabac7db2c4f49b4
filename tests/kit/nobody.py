"""A user without rights of its own: root, who may read and write everything, becomes nobody."""

import codecs
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NOBODY = 65534


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter and write to, unlike pytest's own."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@contextmanager
def without_rights() -> Iterator[None]:
    """Inside, the process is nobody where it was root; others are denied what they deny all."""
    if os.geteuid() != 0:
        yield
        return
    codecs.lookup("utf-8-sig")  # Python itself may lie where nobody may look
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
