"""The lock with hashes, the oldest versions, the bill of materials, the wheel built twice."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy import hash_wheels, sbom
from medgan.core.version import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = ("dicom", "export", "gpu", "pacs", "ray", "serve", "server", "sweep", "text")
LATER = {
    "jinja2": "3.1.2", "nvidia-ml-py": "12.535.77", "pandas": "2.2.2", "psycopg": "3.2.1",
    "python-gdcm": "3.2.1", "wordllama": "0.4.0.post1",
}  # fmt: skip
"""The first releases from a floor on that there are, or that others allow (numpy 2, torch)."""


def pins(name: str) -> dict[str, str]:
    """The versions in a file of requirements, by name."""
    lines = re.findall(r"^([\w.\[\]-]+)==([^\s;\\]+)", (ROOT / name).read_text("utf-8"), re.M)
    return {canonicalize_name(name.partition("[")[0]): version for name, version in lines}


def direct() -> list[Requirement]:
    """What medgan and its extras ask for by name."""
    optional = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(one for extra in EXTRAS for one in optional[extra])]
    return [Requirement(one) for one in asked]


def test_the_lock_holds_hashes_of_everything_and_the_versions_that_are_tested():
    text = (ROOT / "deploy" / "requirements.lock").read_text("utf-8")
    locked, tested = pins("deploy/requirements.lock"), pins("constraints.txt")
    entries = re.findall(r"^(\S+)==\S.*\n((?:    --hash=sha256:[0-9a-f]{64}.*\n?)*)", text, re.M)
    assert len(entries) == len(locked) > 150
    assert [name for name, hashes in entries if not hashes] == []
    other_systems = {name: v for name, v in locked.items() if tested.get(name, v) != v}
    assert other_systems == {}
    for requirement in direct():
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    assert not re.search(r"://|index-url|find-links", text)


def test_the_oldest_versions_are_those_that_pyproject_allows():
    oldest = pins("deploy/oldest.txt")
    assert not re.search(r"://|index-url", (ROOT / "deploy" / "oldest.txt").read_text("utf-8"))
    floors = {}
    for requirement in direct():
        (floor,) = (one.version for one in requirement.specifier if one.operator == ">=")
        floors[canonicalize_name(requirement.name)] = floor
    differing = {
        n: oldest[n] for n, floor in floors.items() if Version(oldest[n]) != Version(floor)
    }
    assert differing == LATER


def test_the_bill_of_materials_fits_the_schema_of_cyclonedx(tmp_path, capsys):
    wheel = tmp_path / f"medgan-{__version__}-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        sbom.main([str(file), "--wheels", str(tmp_path), "--extra", "dicom", "pacs"])
    assert "1 with the hash of their wheel" in capsys.readouterr().out
    text = files[0].read_text("utf-8")
    assert text == files[1].read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    found = json.loads(text)
    about = found["metadata"]["component"]
    assert (about["name"], about["version"]) == ("medgan", __version__)
    assert about["hashes"][0]["content"] == hashlib.sha256(b"a wheel").hexdigest()
    names = {one["name"] for one in found["components"]}
    assert {"torch", "monai", "pydicom", "highdicom", "pynetdicom"} <= names
    assert not {"medgan", "pytest", "ray"} & names
    ruined = text.replace('"library"', '"book"', 1)
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(ruined) is not None


def test_a_wheel_that_is_not_the_locked_one_is_named(tmp_path, capsys):
    house = tmp_path / "wheelhouse"
    house.mkdir()
    for name in ("good-1-py3-none-any", "torch-2.13.0+cpu-cp311-cp311-any"):
        (house / f"{name}.whl").write_bytes(name.encode())
    digest = hashlib.sha256(b"good-1-py3-none-any").hexdigest()
    lock = tmp_path / "a.lock"
    lock.write_text(f"good==1 \\\n    --hash=sha256:{digest}\n")
    assert hash_wheels.main([str(house), "--lock", str(lock)]) == 0
    said = capsys.readouterr().out
    assert f"torch: another build than in {lock}" in said
    assert "good:" not in said
    lines = (house / "requirements.txt").read_text("utf-8")
    assert lines.startswith(f"good==1 \\\n    --hash=sha256:{digest}\ntorch==2.13.0+cpu \\\n")
    (house / "good-1-py3-none-any.whl").write_bytes(b"another")
    assert hash_wheels.main([str(house), "--lock", str(lock)]) == 6
    assert f"good: NOT in {lock}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_wheel_is_the_same_byte_for_byte_wherever_and_whenever_it_is_built(tmp_path):
    built = []
    for number, mask in enumerate((0o022, 0o077)):
        copy = tmp_path / f"copy{number}"
        for name in ("medgan", "pipelines", "zoo/deepbet", "zoo/phantom-head"):
            shutil.copytree(
                ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"),
                copy_function=shutil.copyfile,
            )  # fmt: skip
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / name, copy / name)
        for path in copy.rglob("*"):
            os.utime(path, (number * 10_000_000 + 400_000_000,) * 2)
        build = ["hatchling", "build", "-t", "wheel", "-d", tmp_path / f"{number}"]
        subprocess.run(
            [sys.executable, "-m", *build], cwd=copy, check=True, capture_output=True, umask=mask,
        )  # fmt: skip
        (wheel,) = (tmp_path / f"{number}").glob("*.whl")
        built.append((wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()))
    assert built[0] == built[1]
