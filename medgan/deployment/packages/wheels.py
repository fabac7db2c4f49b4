"""The wheels of a package that is installed without a network."""

import base64
import hashlib
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import files
from importlib.util import find_spec
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from medgan.core.errors import EnvironmentFailure
from medgan.core.files import sha256_of
from medgan.core.version import __version__
from medgan.deployment.packages.distributions import OWN, Installed
from medgan.deployment.packages.sealing import checkout

_DROPPED = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
"""What an installation adds to a wheel; `direct_url.json` names folders of this machine."""
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
Wheels = Mapping[str, Path]
"""Wheel files by the names of what they install."""


def platform() -> str:
    """For which Python and system wheels are collected, such as `CPython 3.11, linux-x86_64`."""
    version = ".".join(map(str, sys.version_info[:2]))
    return f"Python {version}, {sysconfig.get_platform()}"


def own_wheel(folder: Path) -> None:
    """Builds medgan's own wheel from the checkout, or packs what is installed again.

    Args:
        folder: receives it.

    Raises:
        EnvironmentFailure: E_PACKAGE when it cannot be built.
    """
    root = checkout()
    if root is None:
        _repacked(folder)
        return
    here = ["--no-build-isolation"] if find_spec("hatchling") else []
    _run(
        ["wheel", "--no-deps", *here, "--wheel-dir", str(folder), str(root)],
        "medgan", "its wheel cannot be built",
        "run pip install hatchling, or connect this machine to a package index",
    )  # fmt: skip


def collect(parts: Sequence[Installed], folder: Path) -> None:
    """Downloads the wheels of these versions for this Python and system.

    Args:
        parts: medgan is left out: it has its own wheel.
        folder: receives them.

    Raises:
        EnvironmentFailure: E_PACKAGE when one cannot be had.
    """
    wanted = [f"{one.name}=={one.version}" for one in parts if one.name != OWN]
    _run(
        ["download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), *wanted],
        "the wheels", "pip could not download them all",
        "connect this machine to a package index, or leave --wheels out and fetch them elsewhere",
    )  # fmt: skip


def found(folder: Path) -> Wheels:
    """The wheels in a folder."""
    wheels = sorted(folder.glob("*.whl"))
    return {canonicalize_name(parse_wheel_filename(path.name)[0]): path for path in wheels}


def requirements(parts: Sequence[Installed], wheels: Wheels) -> str:
    """Exact versions, with hashes where all wheels are there: pip takes all hashes or none."""
    whole = all(one.name in wheels for one in parts)
    lines = [] if whole else ["# Without hashes: wheels.txt lists what is not here.\n"]
    for one in parts:
        lines.append(f"{one.name}=={one.version}")
        lines.append(f" \\\n    --hash=sha256:{sha256_of(wheels[one.name])}\n" if whole else "\n")
    return "".join(lines)


def listed(parts: Sequence[Installed], wheels: Wheels) -> str:
    """A line for each wheel: its file, or what to fetch."""
    lines = [f"# for {platform()}\n"]
    for one in parts:
        path = wheels.get(one.name)
        here = f"fetch {one.name}=={one.version}" if path is None else f"wheels/{path.name}"
        lines.append(f"{here}\n")
    return "".join(lines)


def _run(arguments: Sequence[str], where: str, what: str, remedy: str) -> None:
    done = subprocess.run(  # nosec B603 # this Python's pip, no shell
        [*_PIP, *arguments], capture_output=True, check=False
    )
    if done.returncode:  # pip's own text may hold addresses and paths
        raise EnvironmentFailure("E_PACKAGE", where, what, remedy)


def _repacked(folder: Path) -> None:
    """The installed medgan as a wheel, without what the installation added."""
    held = [file for file in files(OWN) or () if "__pycache__" not in file.parts]
    inside = [file for file in held if ".." not in file.parts and file.name not in _DROPPED]
    about = next(file.parts[0] for file in inside if file.name == "METADATA")
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    with zipfile.ZipFile(folder / f"{OWN}-{__version__}-py3-none-any.whl", "w") as archive:
        for file in sorted(inside, key=str):
            data = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            records.append(f"{file.as_posix()},sha256={digest},{len(data)}\n")
            archive.writestr(_entry(file.as_posix()), data)
        records.append(f"{about}/RECORD,,\n")
        archive.writestr(_entry(f"{about}/RECORD"), "".join(records))


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry whose date does not tell when it was packed."""
    entry = zipfile.ZipInfo(name, (2020, 2, 2, 0, 0, 0))
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry
