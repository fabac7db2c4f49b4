"""The formats of packages, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from medgan.core.errors import ConfigError
from medgan.deployment.packages import bundle, folder, onnx
from medgan.deployment.packages.packaged import Packaged

Write = Callable[[Packaged, Path], dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """How a package is written.

    Attributes:
        write: of a model into a folder; gives what `--json` prints.
        patterns: what it may leave, as glob patterns.
        with_wheels: the same, with the wheels of everything; None where a package has no wheels.
    """

    write: Write
    patterns: tuple[str, ...]
    with_wheels: Write | None = None


FORMATS = {
    "monai-bundle": Format(bundle.write_bundle, bundle.PATTERNS),
    "onnx": Format(onnx.write_onnx, onnx.PATTERNS),
    "folder": Format(
        folder.write_folder, folder.PATTERNS, partial(folder.write_folder, wheels=True)
    ),
}
"""All formats."""
PATTERNS = tuple(dict.fromkeys(p for one in FORMATS.values() for p in one.patterns))
"""What any of them may leave: a folder holds one package."""


def writer(name: str, wheels: bool = False) -> Write:
    """What writes a package.

    Args:
        name: of the format.
        wheels: whether wheels are collected, too.

    Raises:
        ConfigError: E_VALUE for a format that there is not; E_USAGE for wheels of one without any.
    """
    if name not in FORMATS:
        raise ConfigError(
            "E_VALUE", "--format", f"has no format {name!r}", f"choose {', '.join(FORMATS)}"
        )
    form = FORMATS[name]
    if not wheels:
        return form.write
    if form.with_wheels is None:
        raise ConfigError("E_USAGE", "--wheels", "is for --format folder", "leave it out")
    return form.with_wheels
