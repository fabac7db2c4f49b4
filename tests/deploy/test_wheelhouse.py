"""An installation from a folder of wheels, with no index."""

import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medgan.deployment.packages import wheels
from tests.kit.stand_in_slurm import TEMPLATES

ROOT = TEMPLATES.parents[1]


def asked(*settings: str) -> str:
    """The commands of make wheelhouse."""
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "wheelhouse", *settings], cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return " ".join(done.stdout.replace("\\\n", " ").split())


def test_the_locked_versions_are_collected_with_pytorch_for_the_gpu_that_is_named():
    plain = asked()
    assert "--constraint constraints.txt" in plain
    assert "index-url" not in plain
    assert 'cp constraints.txt "wheelhouse/"' in plain
    full = asked("TORCH=cu128", "EXTRAS=dicom,gpu", "OUT=/else where")
    assert "https://download.pytorch.org/whl/cu128 '.[dicom,gpu]'" in full
    assert '--wheel-dir "/else where"' in full


def test_the_image_is_installed_from_the_wheelhouse_alone():
    recipe = (ROOT / "deploy" / "apptainer" / "medgan.def").read_text()
    sections = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", recipe, re.MULTILINE | re.DOTALL))
    assert recipe.startswith("Bootstrap: docker\nFrom: python:3.11")
    assert sections["files"].split() == ["wheelhouse", "/opt/wheelhouse"]
    assert "--no-index --find-links /opt/wheelhouse" in sections["post"]
    subprocess.run(["bash", "-n"], input=sections["post"], text=True, check=True)
    assert "https" not in recipe


def stand_in(folder: Path, requirement: Requirement) -> None:
    """A wheel without content of the version that is locked."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    locked = {canonicalize_name(name): number for name, number in pairs}
    number = locked[canonicalize_name(requirement.name)]
    name = canonicalize_name(requirement.name).replace("-", "_")
    about = f"{name}-{number}.dist-info"
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {requirement.name}\nVersion: {number}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "".join(f"{about}/{file},,\n" for file in ("METADATA", "WHEEL", "RECORD")),
    }
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as archive:
        for file, text in texts.items():
            archive.writestr(f"{about}/{file}", text)


@pytest.mark.slow
def test_medgan_is_installed_with_no_index_and_only_if_all_wheels_are_there(tmp_path):
    """What it needs is stood in for by empty wheels: PyTorch alone would be 200 MB."""
    house = tmp_path / "wheelhouse"
    house.mkdir()
    wheels.own_wheel(house)
    (own,) = house.glob("medgan-*.whl")
    with zipfile.ZipFile(own) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(about).decode().splitlines()
    needed = [Requirement(line[15:]) for line in lines if line.startswith("Requires-Dist: ")]
    for requirement in needed:
        if not requirement.marker:
            stand_in(house, requirement)
    shutil.copy(ROOT / "constraints.txt", house)
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    install = [
        python, "-m", "pip", "--isolated", "install", "--no-index", "--find-links", house,
        "--constraint", house / "constraints.txt", "medgan",
    ]  # fmt: skip
    alone = {"PATH": str(Path(sys.executable).parent), "PIP_CONFIG_FILE": "/dev/null"}

    torch = next(house.glob("torch-*.whl"))
    missing = torch.rename(tmp_path / "torch.whl")
    done = subprocess.run(install, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "torch" in done.stdout + done.stderr
    shutil.move(missing, torch)
    done = subprocess.run(install, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = "import medgan.core.version as v; print(v.__version__, v.__file__)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert str(tmp_path / "empty") in done.stdout
    assert (tmp_path / "empty" / "bin" / "medgan").is_file()
