"""A folder that a hospital installs without a network, and checks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgan.core.files import write_atomic
from medgan.deployment.packages.distributions import Installed, installed
from medgan.deployment.packages.install_page import install_page
from medgan.deployment.packages.packaged import Packaged
from medgan.deployment.packages.proof import PARTS, WHEELS, write_proof
from medgan.deployment.packages.sbom import bill
from medgan.deployment.packages.sealing import LICENCE, SUMS, licence_text, seal, write_json
from medgan.deployment.packages.wheels import (
    Wheels,
    collect,
    found,
    listed,
    own_wheel,
    requirements,
)
from medgan.model.model import Model

PATTERNS = (*PARTS, WHEELS, SUMS)
"""What this package may hold."""


def write_folder(packaged: Packaged, out: Path, wheels: bool = False) -> dict[str, Any]:
    """Writes model, medgan's wheel, exact versions, bill of materials, proof and instructions.

    Args:
        packaged: the model.
        out: receives the package.
        wheels: whether the wheels of everything else are downloaded, too; else `wheels.txt` says
            which to fetch.

    Returns:
        Numbers of wheels that are there and that are to be fetched, and what the proof expects.

    Raises:
        EnvironmentFailure: E_PACKAGE when a wheel cannot be had.
    """
    parts = installed(_extras(packaged.model))
    own_wheel(out / WHEELS)
    if wheels:
        collect(parts, out / WHEELS)
    held = found(out / WHEELS)
    packaged.copy(out / "model")
    expected = write_proof(packaged.model, out)
    for name, record in _records(packaged).items():
        write_json(out / name, record)
    _write_texts(packaged, out, parts, held, expected)
    seal(out)
    missing = [one.name for one in parts if one.name not in held]
    return {"wheels": len(held), "to_fetch": len(missing), "expected": expected}


def _records(packaged: Packaged) -> dict[str, Any]:
    """What the register says of the version, and the gate's records on it, file by file."""
    found = {"registry.json": packaged.version, "promotions.json": packaged.promotions}
    return {name: record for name, record in found.items() if record}


def _write_texts(
    packaged: Packaged,
    out: Path,
    parts: Sequence[Installed],
    held: Wheels,
    expected: dict[str, float],
) -> None:
    write_atomic(out / "requirements.txt", requirements(parts, held))
    write_atomic(out / "wheels.txt", listed(parts, held))
    write_json(out / "sbom.cdx.json", bill(packaged, parts, held))
    whole = all(one.name in held for one in parts)
    write_atomic(out / "INSTALL.md", install_page(packaged, whole, expected))
    write_atomic(out / LICENCE, licence_text())


def _extras(model: Model) -> tuple[str, ...]:
    """What a model needs beside medgan itself: vectors of words, where it draws by sentences."""
    return () if model.networks.caption is None else ("text",)
