"""Versions of what medgan stands on, without importing it, and the decoders of DICOM."""

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from medgan.app.doctor.finding import Finding
from medgan.core.version import __version__

REASONS = {
    "mlflow": "other majors change stores and interfaces",
    "scipy": "1.18 removed what MONAI's Frechet distance calls",
    "torch": "older ones lack or slow what training needs: 2.9 made mixed-precision Conv3d 4 times "
    "slower",
}
"""Why a range stands in pyproject.toml, where that is not plain age."""
HARMFUL = {"lightning": ("2.6.2", "2.6.3")}
"""Releases that stole credentials (GHSA-w37p-236h-pfx3)."""
SYNTAXES = {
    "JPEG": "1.2.840.10008.1.2.4.50",
    "JPEG 12 bit": "1.2.840.10008.1.2.4.51",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
    "RLE": "1.2.840.10008.1.2.5",
}
"""Compressed transfer syntaxes by the names that radiology uses."""


def versions() -> Iterator[Finding]:
    """Python, medgan, everything it needs, and releases that must not be installed."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    known = sys.version_info >= (3, 11)
    yield Finding(
        "python", "ok" if known else "failure", python, "" if known else "install Python 3.11"
    )
    yield Finding("medgan", "ok", __version__)
    for wanted in _requirements():
        yield _installed(wanted)
    for name, bad in HARMFUL.items():
        if (found := _version(name)) in bad:
            yield Finding(
                name, "failure", f"{found} is a malicious release",
                "uninstall it and change every credential that this account can read",
            )  # fmt: skip


def _requirements() -> list[Requirement]:
    try:
        wanted = [Requirement(text) for text in requires("medgan") or ()]
    except PackageNotFoundError:
        return []
    return [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]


def _installed(wanted: Requirement) -> Finding:
    install = f"install {wanted}; make setup does"
    found = _version(wanted.name)
    if not found:
        return Finding(wanted.name, "failure", "is not installed", install)
    if Version(found) not in wanted.specifier:
        reason = REASONS.get(wanted.name, "")
        what = f"{found} is not {wanted.specifier}" + (f" ({reason})" if reason else "")
        return Finding(wanted.name, "failure", what, install)
    return Finding(wanted.name, "ok", found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def dicom_decoders() -> Finding:
    """Which compressed DICOM can be read."""
    if not _version("pydicom"):
        return Finding(
            "DICOM", "warning", "pydicom is not installed: DICOM cannot be read",
            "install pydicom, or convert scans to NIfTI",
        )  # fmt: skip
    return of_decoders({name: _plugins(uid) for name, uid in SYNTAXES.items()})


def of_decoders(plugins: Mapping[str, tuple[str, ...]]) -> Finding:
    """The same from a table of transfer syntaxes and their plugins."""
    can = [f"{name} ({', '.join(found)})" for name, found in plugins.items() if found]
    cannot = [name for name, found in plugins.items() if not found]
    if not cannot:
        return Finding("DICOM", "ok", "; ".join(can))
    remedy = "install pylibjpeg-openjpeg, pyjpegls and python-gdcm; make setup does"
    what = f"cannot decode {', '.join(cannot)}" + (f"; can {'; '.join(can)}" if can else "")
    return Finding("DICOM", "warning", what, remedy)


def _plugins(uid: str) -> tuple[str, ...]:
    try:
        from pydicom.pixels import get_decoder  # pyright: ignore

        return tuple(get_decoder(uid).available_plugins)
    except (ImportError, NotImplementedError):
        return ()
