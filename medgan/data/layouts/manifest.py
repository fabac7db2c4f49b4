"""The `manifest.json` that a check or a training wrote: its pseudonyms and splits stay."""

from pathlib import Path

from medgan.data.layouts.listed import Listed, Selection
from medgan.data.manifest import Manifest


def matches(source: Path) -> bool:
    """Whether this is a manifest by its name."""
    return source.is_file() and source.suffix == ".json" and source.name != "dataset.json"


def list_scans(source: Path, selection: Selection) -> list[Listed]:
    """The cases of a manifest, under the pseudonyms it gives them.

    Raises:
        DataError: E_MANIFEST.
    """
    del selection
    return [
        Listed(
            case.case, case.subject, {name: Path(path) for name, path in case.images.items()},
            Path(case.label) if case.label else None, tuple(case.covariates.items()), known=case,
        )
        for case in Manifest.load(source).cases
    ]  # fmt: skip
