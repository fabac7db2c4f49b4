"""The pipeline files and models that ship with medgan."""

from pathlib import Path


def shipped_pipelines() -> dict[str, Path]:
    """Their files by name, from the package or from the checkout that it runs from."""
    package = Path(__file__).parents[1]
    folders = (package.parent / "pipelines", package / "pipelines")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def shipped_models() -> dict[str, Path]:
    """Model folders as `zoo/name`, from the package or from the checkout that it runs from."""
    package = Path(__file__).parents[1]
    folders = (package / "zoo", package.parent / "zoo")
    found = (path.parent for folder in folders for path in sorted(folder.glob("*/config.json")))
    return {f"zoo/{path.name}": path for path in found}
