"""The pipeline files and models that ship with medgan."""

from pathlib import Path

from medgan.core.errors import ConfigError


def shipped_pipelines() -> dict[str, Path]:
    """Their files by name, from the package or from the checkout that it runs from."""
    package = Path(__file__).parents[1]
    folders = (package.parent / "pipelines", package / "pipelines")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def find_pipeline(name: str) -> Path:
    """A file as given, or one that ships with medgan.

    The bare name of one that ships means that one, whatever else lies in the current folder.

    Raises:
        ConfigError: E_MISSING.
    """
    shipped = shipped_pipelines()
    if name in shipped:
        return shipped[name]
    if Path(name).is_file():
        return Path(name)
    stem = Path(name).stem
    if Path(name).name == name and stem in shipped:
        return shipped[stem]
    names = ", ".join(sorted(shipped))
    raise ConfigError("E_MISSING", name, "no such pipeline", f"use a path or {names}")


def shipped_models() -> dict[str, Path]:
    """Model folders as `zoo/name`, from the package or from the checkout that it runs from."""
    package = Path(__file__).parents[1]
    folders = (package / "zoo", package.parent / "zoo")
    found = (path.parent for folder in folders for path in sorted(folder.glob("*/config.json")))
    return {f"zoo/{path.name}": path for path in found}
