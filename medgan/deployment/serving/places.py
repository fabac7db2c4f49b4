"""Scans by path: only below one folder, and nothing is told about any other."""

import os
from pathlib import Path

from medgan.deployment.serving.refusals import Refused

_LONGEST = 1024


class Root:
    """The folder whose scans may be asked for by path.

    Args:
        folder: as given; links in its own path are followed, links in it that lead out are not.
    """

    def __init__(self, folder: Path) -> None:
        self._given = Path(os.path.abspath(folder))
        self.folder = folder.resolve()

    def find(self, text: str) -> Path:
        """The file or folder of a path below the root.

        The answer is the same for what is missing, what lies elsewhere and what a link leads out
        to: nobody learns what exists outside. A path outside is not even looked up.

        Args:
            text: relative to the root, or absolute below it.

        Raises:
            Refused: E_PATH, 404.
        """
        if not text or len(text) > _LONGEST or "\0" in text:
            raise _not_here()
        wanted = Path(os.path.normpath(self._given / text))
        base = next((b for b in (self._given, self.folder) if wanted.is_relative_to(b)), None)
        if base is None:
            raise _not_here()
        try:
            found = (self.folder / wanted.relative_to(base)).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # missing, links in a circle, no UTF-8
            raise _not_here() from None
        if not found.is_relative_to(self.folder) or not (found.is_file() or found.is_dir()):
            raise _not_here()
        return found


def _not_here() -> Refused:
    return Refused(
        404, "E_PATH", "path", "no scan of this name in the served folder",
        "give the path of a NIfTI file, or of the folder of a DICOM series, in it",
    )  # fmt: skip
