"""The bill of materials of a package, or of an installation: CycloneDX 1.5, JSON.

Reference: cyclonedx.org/docs/1.5/json.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from medgan.core.files import sha256_of
from medgan.core.version import __version__
from medgan.deployment.packages.distributions import OWN, Installed
from medgan.deployment.packages.packaged import Packaged
from medgan.deployment.packages.sealing import USE
from medgan.deployment.packages.wheels import Wheels
from medgan.model.card import described

_MODEL = "model"
"""Of the model among the references."""


def bill(packaged: Packaged, parts: Sequence[Installed], wheels: Wheels) -> dict[str, Any]:
    """The bill of materials: the model with its files, and every Python package.

    Args:
        packaged: the model.
        parts: what is installed with it.
        wheels: whose hashes are known.
    """
    known = {one.name: _purl(one) for one in parts}
    about = {
        "type": "application", "bom-ref": "package", "name": "medgan-package",
        "version": __version__, "description": USE,
    }  # fmt: skip
    components = [_model(packaged), *(_library(one, wheels) for one in parts)]
    dependencies = [
        {"ref": "package", "dependsOn": [_MODEL, known[OWN]]},
        {"ref": _MODEL, "dependsOn": [known[OWN]]},
        *_dependencies(parts),
    ]
    return _document(about, components, dependencies, [packaged.model.digest, *known.values()])


def bill_of_installation(parts: Sequence[Installed], wheels: Wheels) -> dict[str, Any]:
    """The bill of materials of medgan itself: every Python package that it stands on.

    Args:
        parts: medgan, and what is installed with it.
        wheels: whose hashes are known.
    """
    about = next(_library(one, wheels) for one in parts if one.name == OWN)
    about |= {"type": "application", "description": USE}
    components = [_library(one, wheels) for one in parts if one.name != OWN]
    return _document(about, components, _dependencies(parts), map(_purl, parts))


def _document(
    about: Mapping[str, Any], components: Sequence[Mapping[str, Any]],
    dependencies: Sequence[Mapping[str, Any]], content: Iterable[str],
) -> dict[str, Any]:  # fmt: skip
    """Of equal content the same, byte for byte."""
    digest = ":".join(sorted(content))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"tools": {"components": [_tool()]}, "component": about},
        "components": components,
        "dependencies": dependencies,
    }


def _dependencies(parts: Sequence[Installed]) -> list[dict[str, Any]]:
    known = {one.name: _purl(one) for one in parts}
    return [
        {"ref": known[one.name], "dependsOn": [known[n] for n in one.needs if n in known]}
        for one in parts
    ]


def _model(packaged: Packaged) -> dict[str, Any]:
    model = packaged.model
    _, limits = described(packaged.config)
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": packaged.version.get("name", "medgan model"),
        "version": packaged.version.get("version", model.digest[:12]),
        "hashes": [_hash(model.digest)],
        "modelCard": {
            "modelParameters": {"approach": {"type": "unsupervised"}},
            "considerations": {"useCases": [USE], "technicalLimitations": list(limits)},
        },
        "components": [
            {
                "type": "file", "name": f"model/{name}",
                "hashes": [_hash(sha256_of(packaged.folder / name))],
            }
            for name in packaged.files
        ],
    }  # fmt: skip
    if licence := model.facts.get("data_licence"):
        component["licenses"] = [{"license": {"name": str(licence)}}]
    return component


def _library(one: Installed, wheels: Wheels) -> dict[str, Any]:
    purl = _purl(one)
    found: dict[str, Any] = {
        "type": "library", "bom-ref": purl, "name": one.name, "version": one.version, "purl": purl,
    }  # fmt: skip
    if one.licence:
        found["licenses"] = [_licence(one.licence)]
    if one.name in wheels:
        found["hashes"] = [_hash(sha256_of(wheels[one.name]))]
    return found


def _tool() -> dict[str, Any]:
    return {"type": "application", "name": OWN, "version": __version__}


def _licence(text: str) -> dict[str, Any]:
    """An expression of SPDX where it is one, else a name."""
    try:
        return {"expression": str(canonicalize_license_expression(text))}
    except InvalidLicenseExpression:
        return {"license": {"name": text}}


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _purl(one: Installed) -> str:
    return f"pkg:pypi/{one.name}@{one.version}"
