"""The model that a package is made of: its folder, loaded, and what the register says of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medgan.core.json_files import read_json
from medgan.model.folder import CARD, CONFIG
from medgan.model.model import Model
from medgan.tracking.client import reading_uri
from medgan.tracking.registry import content_of, download
from medgan.tracking.versions import find_version, history_of, require_vouched

_VERSION = re.compile(r"models:/([^@]+?)(?:@([^@/]+)|/(\d+))")


@dataclass(frozen=True)
class Packaged:
    """A model that is about to be packaged.

    Attributes:
        folder: of the model, on this machine.
        model: read from it, on the CPU.
        version: what the register says of it: name, version, aliases, tags; empty for a folder.
        promotions: records of the gate on this version, each with its digest.
    """

    folder: Path
    model: Model
    version: dict[str, Any]
    promotions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        """What the folder's `config.json` holds."""
        return read_json(self.folder / CONFIG)

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
        ModelError: E_MODEL when the folder is not a model, or differs from its hashes; E_GATE,
            E_TAMPERED as for any use of a registered version.
        EnvironmentFailure: E_TRACKING when MLflow cannot be reached or knows no such model.
    """
    if not uri.startswith(("models:/", "runs:/")):
        yield Packaged(Path(uri), Model.load(uri), {})
        return
    with TemporaryDirectory() as kept:
        folder = download(uri, tracking_uri, Path(kept))
        version, promotions = _registered(uri, tracking_uri or reading_uri(), folder)
        yield Packaged(folder, Model.load(folder), version, promotions)


def _registered(uri: str, store: str, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the register says of a version, and the gate's records on it; empty for a run.

    Addresses, MLflow's own tags and those with a slash are left out: they name machines and files.
    """
    asked = _VERSION.fullmatch(uri)
    if asked is None:
        return {}, []
    name, alias, number = asked[1], asked[2] or "", asked[3] or ""
    found, history = find_version(store, name, number, alias), history_of(store, name)
    require_vouched(found, alias, content_of(folder), history)  # the alias may just have moved
    tags = {
        key: value
        for key, value in sorted(found.tags.items())
        if not key.startswith("mlflow.") and not re.search(r"[/\\]", value)
    }
    version = {"name": name, "version": found.number, "aliases": list(found.aliases), "tags": tags}
    records = [one for one in history.records if one.version == found.number]
    return version, [{**asdict(one), "digest": one.digest} for one in records]
