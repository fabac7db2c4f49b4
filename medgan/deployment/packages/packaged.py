"""The model that a package is made of: its folder, loaded, and what the register says of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medgan.model.folder import CARD, CONFIG
from medgan.model.model import Model
from medgan.tracking.registry import download
from medgan.tracking.versions import version_facts


@dataclass(frozen=True)
class Packaged:
    """A model that is about to be packaged.

    Attributes:
        folder: of the model, on this machine.
        model: read from it, on the CPU.
        version: what the register says of it: name, version, aliases, tags; empty for a folder.
    """

    folder: Path
    model: Model
    version: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """What the folder's `config.json` holds."""
        return json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))

    @property
    def files(self) -> list[str]:
        """Names of the files that `config.json` vouches for, itself and the card included.

        Anything else in the folder stays behind: nobody has checked what it holds.
        """
        own = [CONFIG, *([CARD] if (self.folder / CARD).is_file() else [])]
        return sorted([*self.config["sha256"], *own])

    def copy(self, folder: Path) -> None:
        """Copies the model folder, byte by byte."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.files:
            (folder / name).write_bytes((self.folder / name).read_bytes())


@contextmanager
def opened(uri: str, tracking_uri: str = "") -> Iterator[Packaged]:
    """A model to package, for as long as its folder is there.

    Args:
        uri: a model folder, `models:/name@alias`, `models:/name/3` or `runs:/id/model/content`.
        tracking_uri: where MLflow keeps its records; empty takes the default store.

    Raises:
        ModelError: E_MODEL when the folder is not a model, or differs from its hashes.
        EnvironmentFailure: E_TRACKING when MLflow cannot be reached or knows no such model.
    """
    if not uri.startswith(("models:/", "runs:/")):
        yield Packaged(Path(uri), Model.load(uri), {})
        return
    with TemporaryDirectory() as kept:
        folder = download(uri, tracking_uri, Path(kept))
        yield Packaged(folder, Model.load(folder), version_facts(uri, tracking_uri))
