"""A package of a model, in a folder of its own."""

from pathlib import Path
from typing import Any

from medgan.app.folder import Aside, claim, hidden, note
from medgan.core.files import locked
from medgan.deployment.packages.formats import PATTERNS, writer
from medgan.deployment.packages.packaged import opened

_STEP = "export"


def export_model(
    uri: str,
    name: str,
    out: Path,
    tracking_uri: str = "",
    wheels: bool = False,
    replace: bool = False,
) -> dict[str, Any]:
    """Writes the package of a model.

    Args:
        uri: folder, models:/name@alias or runs:/id/model.
        name: of the format.
        out: receives the package, and nothing else.
        tracking_uri: where MLflow keeps its records; empty takes the default store.
        wheels: whether the wheels of everything are collected, too.
        replace: whether to remove what another command has left in the folder.

    Returns:
        What the format says of it, with the folder.

    Raises:
        ConfigError: E_OUT; E_VALUE, E_USAGE for a format that there is not.
        MedganError: what the format says.
    """
    write = writer(name, wheels)
    wanted = {"model": hidden(uri), "format": name, "wheels": wheels}
    with locked(out):
        again = claim(out, _STEP, PATTERNS, wanted, replace) or replace
        with opened(uri, tracking_uri) as packaged, Aside(out) as aside:
            if again:
                read = [] if uri.startswith(("models:/", "runs:/")) else [Path(uri).resolve()]
                aside.take(out, PATTERNS, read)
            note(out, _STEP, wanted)
            done = write(packaged, out)
    return {"format": name, "folder": str(out), **done}
