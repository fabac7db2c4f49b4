"""The Python packages that medgan stands on here: names, versions, licences."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medgan.core.errors import EnvironmentFailure
from medgan.core.version import __version__

OWN = "medgan"


@dataclass(frozen=True)
class Installed:
    """A package that is installed.

    Attributes:
        name: normalised, as in the address of an index.
        version: without a local part such as `+cpu`: an index does not know these.
        licence: an SPDX expression or what its metadata say; empty where they say nothing.
        needs: names of those it needs in turn.
    """

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]


def installed(extras: Collection[str] = ()) -> list[Installed]:
    """The package medgan and everything it needs, by name.

    Args:
        extras: of medgan, such as `text`.

    Raises:
        EnvironmentFailure: E_PACKAGE where one of them is missing.
    """
    found: dict[str, Installed] = {}
    waiting = [(OWN, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        one = _distribution(name)
        needed = [(canonicalize_name(r.name), frozenset(r.extras)) for r in _needed(one, wanted)]
        before = found[name].needs if name in found else ()
        needs = sorted({*before, *(other for other, _ in needed)})
        version = __version__ if name == OWN else one.version.partition("+")[0]
        found[name] = Installed(name, version, licence_of(one), tuple(needs))
        waiting += needed
    return [found[name] for name in sorted(found)]


def direct_versions() -> dict[str, str]:
    """Versions of medgan, of what it needs itself, and of the reader of MONAI's command line."""
    own = _distribution(OWN)
    names = sorted(canonicalize_name(r.name) for r in _needed(own, frozenset()))
    base = ("monai", "torch", "numpy")  # which a bundle's metadata name elsewhere
    found = {name: version_of(name) for name in names if name not in base}
    return {OWN: __version__, "fire": version_of("fire"), **found}


def version_of(name: str) -> str:
    """The version of a package, or an empty string where it is not installed."""
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return ""


def licence_of(one: Distribution) -> str:
    """The licence that a package's metadata name: an expression, a text, or classifiers."""
    about = one.metadata.json
    short = str(about.get("license_expression") or about.get("license") or "").strip()
    if short and "\n" not in short and len(short) < 100:
        return short
    kinds = [c for c in about.get("classifier") or () if c.startswith("License ::")]
    return " AND ".join(kind.rpartition(" :: ")[2] for kind in kinds)


def _needed(one: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in one.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield requirement


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise EnvironmentFailure(
            "E_PACKAGE", name, "is not installed, and medgan needs it", "run make setup"
        ) from None
