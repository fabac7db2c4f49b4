import base64
import hashlib
import json
import shutil
import zipfile
from importlib.metadata import Distribution

import numpy as np
import pytest

from medgan.core.errors import ConfigError, EnvironmentFailure, ModelError
from medgan.core.files import sha256_of
from medgan.core.volume import Volume
from medgan.deployment.packages import folder as folders
from medgan.deployment.packages import sealing, wheels
from medgan.deployment.packages.distributions import Installed, installed
from medgan.deployment.packages.folder import write_folder
from medgan.deployment.packages.formats import writer
from medgan.deployment.packages.packaged import Packaged, opened
from medgan.deployment.packages.proof import EXPECTED, FOLDER, check_package
from medgan.deployment.packages.sealing import SUMS, seal
from tests.kit.command_line import inside, medgan
from tests.kit.models import make_model


def stand_in(folder):
    """A wheel that takes no minute to build."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "medgan-0.1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(zipfile.ZipInfo("medgan/__init__.py"), "")


@pytest.fixture(autouse=True)
def no_build(monkeypatch):
    monkeypatch.setattr(folders, "own_wheel", stand_in)


@pytest.fixture(scope="module")
def made(packaged, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "own_wheel", stand_in)
        write_folder(packaged, folder := tmp_path_factory.mktemp("made") / "package")
    return folder


@pytest.fixture
def package(made, tmp_path):
    return shutil.copytree(made, tmp_path / "package")


def test_a_package_holds_all_it_names_and_nothing_of_this_machine(
    package, packaged, says_nothing_of_this_machine
):
    names = {path.name for path in package.iterdir()}
    assert names == {
        *("model", "wheels", "proof", "requirements.txt", "wheels.txt", "sbom.cdx.json"),
        *("registry.json", "promotions.json", "INSTALL.md", "LICENSE", "SHA256SUMS"),
    }
    assert sorted(path.name for path in (package / "model").iterdir()) == packaged.files
    assert json.loads((package / "registry.json").read_text()) == packaged.version
    assert json.loads((package / "promotions.json").read_text()) == packaged.promotions
    says_nothing_of_this_machine(package)


def test_a_package_is_the_same_when_it_is_made_again(package, packaged, tmp_path):
    write_folder(packaged, tmp_path / "again")
    assert (tmp_path / "again" / SUMS).read_bytes() == (package / SUMS).read_bytes()


def test_a_package_passes_where_the_installation_computes_the_same(package):
    checked = check_package(package)
    assert checked.passed
    assert checked.expected.keys() == {"score", "highest_of_map", "mean_of_map"}
    assert np.all(np.isfinite(list(checked.expected.values())))


def test_a_changed_file_is_named_and_nothing_is_computed(package):
    (package / "requirements.txt").write_text("torch==0\n")
    (package / "model" / "card.md").unlink()
    checked = check_package(package)
    assert not checked.passed
    assert set(checked.damaged) == {"requirements.txt", "model/card.md"}
    assert inside("verify", package).returncode == 6


def test_another_score_does_not_pass(package):
    path = package / FOLDER / EXPECTED
    expected = json.loads(path.read_text())
    expected["values"]["score"] += 0.01 * max(1, abs(expected["values"]["score"]))
    path.write_text(json.dumps(expected))
    seal(package)
    checked = check_package(package)
    assert (checked.damaged, checked.passed) == ((), False)


def test_a_list_of_checksums_that_was_cut_off_does_not_pass(package):
    lines = (package / SUMS).read_text().splitlines(keepends=True)
    for kept in (0, 3, len(lines) - 1):
        (package / SUMS).write_text("".join(lines[:kept]))
        checked = check_package(package)
        assert not checked.passed
        assert len(checked.damaged) == len(lines) - kept
    (package / SUMS).write_text("".join(lines))
    (package / "wheels" / "fetched-1-py3-none-any.whl").write_bytes(b"as wheels.txt asks for")
    (package / "venv").mkdir()
    (package / "venv" / "pyvenv.cfg").write_text("as INSTALL.md makes it")
    assert check_package(package).passed


def test_an_installation_that_computes_other_values_than_expected_does_not_pass(package):
    path = package / FOLDER / EXPECTED
    path.write_text(json.dumps({"values": {"sample_mean": 0.5}}))
    seal(package)
    assert not check_package(package).passed
    assert inside("verify", package).returncode == 6


def test_a_folder_that_is_no_package_is_refused(tmp_path):
    with pytest.raises(ModelError, match="E_PACKAGE"):
        check_package(tmp_path)


def test_the_bill_of_materials_has_every_package_and_every_file_of_the_model(package, packaged):
    found = json.loads((package / "sbom.cdx.json").read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.5")
    model, *others = found["components"]
    assert model["hashes"][0]["content"] == packaged.model.digest
    assert [one["name"] for one in model["components"]] == [f"model/{n}" for n in packaged.files]
    refs = {one["bom-ref"] for one in (model, *others)} | {"package"}
    assert len(refs) == len(others) + 2
    assert {d for one in found["dependencies"] for d in one["dependsOn"]} < refs
    purls = {one["purl"].partition("@")[0] for one in others}
    assert {"pkg:pypi/medgan", "pkg:pypi/torch", "pkg:pypi/monai"} < purls
    assert sum("licenses" in one for one in others) > 0.9 * len(others)


def test_versions_are_exact_known_to_an_index_and_complete():
    parts = installed()
    names = {one.name for one in parts}
    assert {"medgan", "torch", "typing-extensions"} < names
    assert "pytest" not in names
    assert not [one for one in parts if "+" in one.version]
    assert {name for one in parts for name in one.needs} <= names


def test_hashes_are_those_of_the_wheels_once_all_are_there(tmp_path):
    parts = [Installed("a", "1", "MIT", ()), Installed("b-c", "2", "", ())]
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"a")
    held = wheels.found(tmp_path)
    assert "--hash" not in wheels.requirements(parts, held)
    assert wheels.listed(parts, held).splitlines()[1:] == [
        "wheels/a-1-py3-none-any.whl", "fetch b-c==2",
    ]  # fmt: skip
    (tmp_path / "b_c-2-py3-none-any.whl").write_bytes(b"b")
    held = wheels.found(tmp_path)
    digest = sha256_of(tmp_path / "b_c-2-py3-none-any.whl")
    assert wheels.requirements(parts, held).endswith(f"b-c==2 \\\n    --hash=sha256:{digest}\n")


def test_a_download_that_fails_is_one_line_without_pips_text(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "_PIP", ("false",))
    with pytest.raises(EnvironmentFailure, match="E_PACKAGE the wheels"):
        wheels.collect([Installed("a", "1", "", ())], tmp_path)


def test_a_model_that_cannot_score_proves_itself_by_a_sample(tmp_path):
    model = make_model()
    model.save(tmp_path / "plain")
    found = write_folder(Packaged(tmp_path / "plain", model, {}), tmp_path / "other")
    assert found["expected"].keys() == {"sample_mean", "sample_spread"}
    assert not (tmp_path / "other" / "registry.json").exists()
    assert check_package(tmp_path / "other").passed


def test_a_format_that_there_is_not_and_wheels_of_another_are_refused():
    with pytest.raises(ConfigError, match="E_VALUE --format: has no format 'zip'"):
        writer("zip")
    with pytest.raises(ConfigError, match="E_USAGE --wheels"):
        writer("onnx", wheels=True)


def test_a_folder_with_another_package_is_refused_until_it_is_to_be_replaced(packaged, tmp_path):
    out, formats = tmp_path / "out", ("--format", "monai-bundle")
    (tmp_path / "scans").mkdir()
    assert inside("export", packaged.folder, *formats, "-o", out).returncode == 0
    shutil.copytree(packaged.folder, tmp_path / "twin")
    refused = inside("export", tmp_path / "twin", *formats, "-o", out)
    assert (refused.returncode, "E_OUT" in refused.stderr) == (2, True)
    again = inside("export", tmp_path / "twin", *formats, "-o", out, "--replace")
    assert again.returncode == 0


def test_a_folder_is_opened_without_a_register(packaged):
    with opened(str(packaged.folder)) as found:
        assert (found.folder, found.version) == (packaged.folder, {})


def test_an_installation_is_packed_again_without_what_names_this_machine(tmp_path, monkeypatch):
    about = tmp_path / "medgan-0.1.0.dist-info"
    held = {"medgan/__init__.py": "code", "medgan-0.1.0.dist-info/METADATA": "Name: medgan\n"}
    added = {"medgan-0.1.0.dist-info/direct_url.json": str(tmp_path), "../bin/medgan": "script"}
    for name, text in (held | added).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in (*held, *added)))
    monkeypatch.setattr(wheels, "files", lambda name: Distribution.at(about).files)
    monkeypatch.setattr(sealing, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "strayed"\n')
    (tmp_path / "LICENSE").write_text("of another package")
    assert "another" not in sealing.licence_text()
    wheels.own_wheel(tmp_path / "wheels")
    ((name, path),) = wheels.found(tmp_path / "wheels").items()
    archive = zipfile.ZipFile(path)
    assert (name, set(archive.namelist())) == ("medgan", {*held, f"{about.name}/RECORD"})
    assert archive.read("medgan/__init__.py") == b"code"
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"code").digest()).decode().rstrip("=")
    assert f"medgan/__init__.py,sha256={digest},4" in archive.read(f"{about.name}/RECORD").decode()


@pytest.mark.slow
def test_the_wheel_of_the_checkout_holds_code_and_pipelines(tmp_path):
    wheels.own_wheel(tmp_path)
    (path,) = tmp_path.iterdir()
    names = set(zipfile.ZipFile(path).namelist())
    assert {"medgan/deployment/packages/wheels.py", "medgan/pipelines/score.yaml"} < names


@pytest.mark.slow
def test_the_verb_writes_a_whole_package(packaged, tmp_path):
    done = medgan("export", packaged.folder, "--format", "folder", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["wheels"] == 1
    assert Volume.load(tmp_path / "out" / "proof" / "image.nii.gz").data.max() == 1000
    assert medgan("verify", tmp_path / "out").returncode == 0
