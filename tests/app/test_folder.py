import json

import pytest

from medgan.app.folder import Aside
from medgan.app.pipeline import run_pipeline
from medgan.app.steps import STEPS
from medgan.core.config import build
from medgan.core.errors import ConfigError, MedganError
from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.models import make_model


@pytest.fixture
def model(tmp_path):
    make_model().save(tmp_path / "model")
    return tmp_path / "model"


def generate(model, out, *settings, replace=False):
    first = [f"out={out}", f"model_uri={model}", "tracking.uri=none", *settings]
    return run_pipeline("generate", first, replace=replace)


def scans_of(folder):
    return {path.name for path in (folder / "imagesTr").iterdir()}


def listed(folder):
    entries = json.loads((folder / "dataset.json").read_text())["training"]
    return {entry["image"].rsplit("/", 1)[1] for entry in entries}


def test_a_folder_with_another_set_is_refused_and_replaced_when_asked(model, tmp_path):
    out = tmp_path / "out"
    generate(model, out, "generate.count=3")
    before = {path: path.read_bytes() for path in out.rglob("*.nii.gz")}
    with pytest.raises(ConfigError, match=r"E_OUT -o: holds results of generate .*generate.count"):
        generate(model, out, "generate.count=2")
    assert {path: path.read_bytes() for path in out.rglob("*.nii.gz")} == before
    generate(model, out, "generate.count=2", replace=True)
    assert scans_of(out) == listed(out)
    assert len(scans_of(out)) == 2


@pytest.mark.parametrize("wrong", ["generate.conditions.weight=3", "model_uri=nowhere"])
def test_a_command_that_is_refused_replaces_nothing(model, tmp_path, wrong):
    out = tmp_path / "out"
    generate(model, out, "generate.count=1")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(MedganError):
        generate(model, out, "generate.count=2", wrong, replace=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    generate(model, out, "generate.count=2", replace=True)
    assert len(scans_of(out)) == 2
    assert not (out / ".replaced").exists()


def test_a_training_that_began_anew_is_not_undone_by_the_old_one(tmp_path):
    folder = tmp_path / "out"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "old").write_text("old")
    aside = Aside(folder)
    aside.take(folder, ["model"])
    (folder / "model").mkdir()
    aside.__exit__(KeyboardInterrupt)
    assert not list((folder / "model").iterdir())
    assert not (folder / ".replaced").exists()


def test_the_same_command_leaves_exactly_what_its_table_says(model, tmp_path):
    out = tmp_path / "out"
    generate(model, out, "generate.count=2")
    stray = out / "imagesTr" / "synthetic-s9-00000.nii.gz"
    stray.write_bytes(b"of a run that was stopped")
    generate(model, out, "generate.count=2")
    assert not stray.exists()
    assert scans_of(out) == listed(out)


def test_a_data_set_of_somebody_else_is_never_written_into(model, tmp_path):
    out = tmp_path / "mine"
    (out / "imagesTr").mkdir(parents=True)
    (out / "imagesTr" / "scan.nii.gz").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="E_OUT -o: holds imagesTr, which this command did not"):
        generate(model, out)
    assert list((out / "imagesTr").iterdir()) == [out / "imagesTr" / "scan.nii.gz"]


def test_what_is_to_be_read_is_never_removed(model, tmp_path):
    source = write_folder(tmp_path / "scans", 2, labels=False)
    before = sorted(source.glob("*.nii.gz"))
    done = inside("score", model, source, "--format", "mood", "-o", source, "--replace")
    assert done.returncode == 2
    assert "E_OUT" in done.stderr
    assert sorted(source.glob("*.nii.gz")) == before


def test_the_record_of_a_folder_holds_no_path(model, tmp_path):
    out = tmp_path / "DOE_JANE"
    generate(model, out, f"data.source={tmp_path / 'DOE_JANE scans'}")
    text = (out / ".medgan.json").read_text()
    assert "DOE_JANE" not in text
    assert str(tmp_path) not in text


def test_a_setting_that_no_step_reads_is_refused(model, tmp_path):
    for key in ("train.gamma=3", "score.scorers=[density]", "data.spacing=[1,1,1]"):
        done = inside("score", model, tmp_path, "-o", tmp_path / "out", "--set", key)
        assert done.returncode == 2, key
        assert f"E_SET {key.partition('=')[0]}: not read by index, score, report" in done.stderr
    assert not (tmp_path / "out").exists()
    mood = ["score", model, tmp_path, "--format", "mood", "-o", tmp_path / "out"]
    assert "E_SET" in inside(*mood, "--set", "score.false_alarms=0.05").stderr
    assert "E_DEVICE" in inside(*mood, "--set", "train.device=cuda").stderr or cuda()
    assert "E_KEY" in inside(*mood, "--set", "train.gama=3").stderr


@pytest.mark.parametrize(
    ("verb", "setting"),
    [
        *(("interpolate", f"generate.{key}") for key in ("explain=true", "seed=3", "balance=sex")),
        *(("augment", f"generate.{key}") for key in ("explain=true", "count=3", "dicom=true")),
        ("edit", "latent.along=age"), ("series", "latent.changes.age=70"),
    ],
)  # fmt: skip
def test_settings_of_generate_and_latent_are_refused_where_they_change_nothing(
    verb, setting, tmp_path
):
    with pytest.raises(ConfigError, match=rf"E_SET {setting.partition('=')[0]}: not read by"):
        run_pipeline(verb, [f"out={tmp_path / 'out'}", "model_uri=nowhere", setting])


def cuda():
    import torch

    return torch.cuda.is_available()


def test_every_setting_that_a_step_reads_exists():
    values = build({}).model_dump()
    for name, step in STEPS.items():
        for setting in step.reads:
            section, _, key = setting.partition(".")
            assert section in values, name
            assert not key or key in values[section], (name, setting)


def test_every_setting_is_read_by_some_step():
    read = {setting for step in STEPS.values() for setting in (*step.reads, *step.uses)}
    read |= {"serve", "pacs", "sweep"}  # of verbs that are no pipelines
    for section, found in build({}).model_dump().items():
        for key in found if isinstance(found, dict) else ():
            assert section in read or f"{section}.{key}" in read, f"{section}.{key}"
