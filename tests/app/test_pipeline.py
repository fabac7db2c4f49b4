import csv
import json
import logging
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml

import medgan
from medgan.anomaly.calibration import ScoringConfig
from medgan.app.pipeline import STEPS, Again, plan_pipeline, run_pipeline
from medgan.app.pipeline_files import read_pipeline
from medgan.app.presets import find_pipeline
from medgan.app.run import Run
from medgan.app.steps.models import register_step, train_step
from medgan.app.sync import sync
from medgan.core.config import build
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError, DataError, EnvironmentFailure, Exit
from medgan.core.files import locked
from tests.kit.command_line import inside
from tests.kit.data_sets import TINY, remove_contrast, write_folder

ALL = [
    *("index", "train", "scorers", "calibrate", "register", "load_back"),
    *("generate", "score", "report"),
]


def write_pipeline(folder, steps=ALL, **config):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"steps": steps, "config": {**TINY, **config}}))
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, fresh_store):
    """One whole run, from scans to page, with MLflow; shared by several tests."""
    folder = tmp_path_factory.mktemp("whole") / "in a folder"
    folder.mkdir()
    source = write_folder(folder / "DOE_JANE scans", 22)
    (source / "broken.nii.gz").write_bytes(b"not a scan")
    home = pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    store = f"sqlite:///{shutil.copy(fresh_store, folder / 'mlflow.db')}"
    pipeline = write_pipeline(folder, tracking={"uri": store, "name": "tiny"})
    out = folder / "out"
    done = run_pipeline(pipeline, [f"out={out}", f"data.source={source}"], again=Again())
    yield done, out, store, source
    home.undo()


@pytest.fixture
def same_site(finished, monkeypatch):
    """The site's secret that the whole run was made with."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(finished[1].parent / "home"))


@pytest.mark.usefixtures("same_site")
def test_nothing_but_the_scans_is_looked_at_when_a_whole_run_is_asked_for_again(finished):
    _, out, _, source = finished
    settings = [f"out={out}", f"data.source={source}"]
    steps, reasons = plan_pipeline(str(out.parent / "tiny.yaml"), settings, {}, Again())
    assert [step for step, reason in zip(steps, reasons, strict=True) if reason] == ["index"]
    again = dict(zip(*plan_pipeline(
        str(out.parent / "tiny.yaml"), [*settings, "score.smallest_mm3=90"], {}, Again()
    ), strict=True))  # fmt: skip
    assert again["score"] == "another score.smallest_mm3"
    assert {step for step, reason in again.items() if reason} == {"index", "score", "report"}


def test_the_scorers_of_a_run_come_back_with_its_model(finished):
    _, out, _, source = finished
    model = medgan.load(out / "model")
    assert set(model.densities) == {"local", "latent", "stage 0", "stage 1"}
    assert model.networks.localiser is not None
    assert model.networks.localiser.inputs == ("density", "recon")
    assert model.calibration is not None
    assert model.calibration.scoring_config.scorers == ("localiser",)
    assert "- Scorers: localiser" in (out / "model" / "card.md").read_text()
    assert set(model.score(source / "person-00.nii.gz").parts) == {"localiser"}


@pytest.mark.usefixtures("same_site")
def test_scorers_are_chosen_at_calibration_and_kept(finished, tmp_path, monkeypatch):
    """And nothing is prepared for a choice by power, which was not asked for."""

    def unwanted(*_):
        raise AssertionError

    monkeypatch.setattr("medgan.app.steps.models._choice_on_validation_scans", unwanted)
    _, out, _, source = finished
    pipeline = write_pipeline(tmp_path, ["index", "calibrate"])
    settings = [
        f"out={tmp_path / 'o'}", f"data.source={source}", f"model_uri={out / 'model'}",
        "data.splits=calibration",
    ]  # fmt: skip
    before = {path.name: path.read_bytes() for path in (out / "model").iterdir()}
    asked = ["score.scorers=[residual, latent]", "score.top_fraction=0.02"]
    try:
        run_pipeline(pipeline, [*settings, *asked])
        model = medgan.load(out / "model")
        assert model.calibration is not None
        assert model.calibration.scoring_config == ScoringConfig(("residual", "latent"), 0.02)
        assert set(model.score(source / "person-00.nii.gz").parts) == {"residual", "latent"}
        with pytest.raises(ConfigError, match="E_SCORER"):
            run_pipeline(pipeline, [*settings, "score.scorers=[magic]"])
    finally:
        for name, data in before.items():
            (out / "model" / name).write_bytes(data)


def test_every_artefact_of_a_whole_run_is_there(finished):
    done, out, _, _ = finished
    for name in (
        *("manifest.json", "refused.csv", "private_key.csv", "metrics.jsonl", "config.yaml"),
        *("model/model.safetensors", "model/config.json", "model/card.md"),
        *("report/index.html", "report/training.html"),
        *("scores/scores.csv", "scores/scores.json", "synthetic/dataset.json"),
        "synthetic/provenance.json",
    ):
        assert (out / name).is_file(), name
    assert list((out / "samples").glob("*.png"))
    assert set(done.results) == {*ALL} - {"load_back"}


def test_scores_and_maps_lie_in_the_grid_of_their_scan(finished):
    _, out, _, _ = finished
    cases = {c["case"]: c for c in json.loads((out / "manifest.json").read_text())["cases"]}
    with (out / "scores" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(c["split"] == "test" for c in cases.values())
    for row in rows:
        scan = nibabel.load(cases[row["case"]]["images"]["image"])
        score_map = nibabel.load(out / "scores" / row["map"])
        assert score_map.shape == scan.shape
        assert np.array_equal(score_map.affine, scan.affine)
        assert 0 < float(row["p_value"]) <= 1


def test_the_registered_model_scores_as_the_folder_does(finished):
    _, out, store, source = finished
    registered = medgan.load("models:/tiny@challenger", store)
    folder = medgan.load(str(out / "model"))
    scan = source / "person-00.nii.gz"
    a, b = registered.score(scan), folder.score(scan)
    assert (a.score, a.p_value) == (b.score, b.p_value)
    assert np.array_equal(a.score_map.data, b.score_map.data)
    by_number = medgan.load("models:/tiny/1", store)
    assert by_number.score(scan).score == a.score


def test_the_registered_version_is_a_model_that_mlflow_can_load(finished):
    from mlflow import MlflowClient
    from mlflow.pyfunc import load_model

    _, out, store, source = finished
    version = MlflowClient(store).get_model_version("tiny", "1")
    assert version.description == (out / "model" / "card.md").read_text()
    assert version.tags["data_digest"]
    scan = source / "person-00.nii.gz"
    found = load_model(version.source).predict(pd.DataFrame({"image": [str(scan)]}))
    assert found["score"][0] == pytest.approx(medgan.load(str(out / "model")).score(scan).score)


def test_a_registered_version_never_changes(finished, same_site):
    _, out, store, source = finished
    scan = source / "person-00.nii.gz"
    before = medgan.load("models:/tiny/1", store).score(scan)
    steps = ["index", "calibrate", "register"]
    pipeline = write_pipeline(out.parent, steps, tracking={"uri": store, "name": "tiny"})
    again = run_pipeline(
        pipeline, [f"out={out}", f"data.source={source}", "score.top_fraction=0.2"]
    )
    assert again.results["register"].values["version"] == "2"
    after = medgan.load("models:/tiny/1", store).score(scan)
    assert (before.score, before.p_value) == (after.score, after.p_value)
    assert medgan.load("models:/tiny/2", store).score(scan).score != before.score
    undo = [f"out={out}", f"data.source={source}"]
    run_pipeline(write_pipeline(out.parent, steps[:2], tracking={"uri": "none"}), undo)


def test_a_changed_setting_goes_on_with_the_mirror_and_ends_it_well(finished, caplog, same_site):
    from mlflow import MlflowClient

    _, out, store, source = finished
    pipeline = write_pipeline(out.parent, ["index", "train", "calibrate"], tracking={"uri": store})
    more = [f"out={out}", f"data.source={source}", "train.volumes=20", "train.gamma=60"]
    run_pipeline(pipeline, more)
    assert "E_TRACKING" not in caplog.text
    run = MlflowClient(store).get_run((out / "mlflow_run.txt").read_text())
    assert run.info.status == "FINISHED"
    assert run.data.tags["resumed.train.gamma"] == "60.0"
    assert run.data.params["train.gamma"] == "50.0"


def test_reading_a_model_makes_no_store_where_there_is_none(tmp_path):
    with pytest.raises(EnvironmentFailure, match="no tracking store"):
        medgan.load("models:/tiny@challenger", f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()


def test_a_scan_that_vanishes_is_refused_and_the_rest_scored(finished, tmp_path):
    _, out, _, _ = finished
    source = write_folder(tmp_path / "new", 3, labels=False, seed=9)
    settings = [f"out={tmp_path / 'o'}", f"data.source={source}", f"model_uri={out / 'model'}"]
    run_pipeline("check", settings)
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    (source / "person-01.nii.gz").unlink()
    for case in manifest["cases"]:
        case["split"] = "test"
    (tmp_path / "o" / "manifest.json").write_text(json.dumps(manifest))
    done = run_pipeline(write_pipeline(tmp_path, ["score"]), settings)
    assert [r.code for r in done.refusals] == ["E_UNREADABLE"]
    assert done.results["score"].values["scans"] == 2


def test_scans_without_contrast_are_left_out_of_each_step_and_the_rest_goes_on(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    source = write_folder(tmp_path / "scans", 20, labels=False)
    names = [f"person-{number}.nii.gz" for number in ("00", "10", "11", "19")]  # one of each split
    remove_contrast(*(source / name for name in names))
    subjects = [f"person-{number:02d}" for number in range(20)]
    splits = {"train": subjects[:8], "validation": subjects[8:11],
              "calibration": subjects[11:18], "test": subjects[18:]}  # fmt: skip
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    steps = ["index", "train", "scorers", "calibrate", "score"]
    run = run_pipeline(
        write_pipeline(tmp_path, steps),
        [f"out={tmp_path / 'out'}", f"data.source={source}",
         f"data.splits={tmp_path / 'splits.json'}"],
    )  # fmt: skip
    refused = list(csv.DictReader((run.out / "refused.csv").read_text().splitlines()))
    assert {row["code"] for row in refused} == {"E_CONTRAST"}
    with (run.out / "private_key.csv").open() as file:
        files = {row["case"]: Path(row["file"]).name for row in csv.DictReader(file)}
    assert [files[row["case"]] for row in refused] == names  # each once
    assert run.exit_status == Exit.REFUSED
    assert run.model().facts["training_scans"] == 7
    page = (run.out / "report" / "training.html").read_text()
    assert "2 files: E_CONTRAST 2" in page  # of the training
    assert len(json.loads((run.out / "scores" / "scores.json").read_text())["scans"]) == 1


@pytest.mark.parametrize(("verb", "default"), [("run", "runs/latest"), ("train", "runs/train")])
def test_the_folder_of_a_pipeline_file_is_used_unless_another_is_given(
    tmp_path, monkeypatch, verb, default
):
    monkeypatch.chdir(tmp_path)
    source = write_folder(tmp_path / "scans", 4, labels=False)
    unnamed = write_pipeline(tmp_path, ["index"])
    (tmp_path / "named.yaml").write_text("extends: tiny\nconfig: {out: named}\n")
    cases = (
        (unnamed, (), default),
        (tmp_path / "named.yaml", (), "named"),
        (tmp_path / "named.yaml", ("-o", "other"), "other"),
    )
    for pipeline, given, folder in cases:
        assert inside(verb, pipeline, "--data", source, *given).returncode == 0
        assert (tmp_path / folder / "manifest.json").is_file()
        assert len(list(tmp_path.glob("**/manifest.json"))) == 1
        (tmp_path / folder / "manifest.json").unlink()


def test_scans_known_not_to_be_healthy_never_calibrate(tmp_path):
    write_folder(tmp_path, 4, labels=False)
    rows = ["image,group", *(f"person-0{n}.nii.gz,{n % 2}" for n in range(4))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    settings = [f"out={tmp_path / 'o'}", f"data.source={tmp_path / 't.csv'}"]
    done = run_pipeline(
        "check", [*settings, "data.healthy={group: [0]}", "data.splits=calibration"]
    )
    assert done.results["index"].values["calibration"] == done.results["index"].values["test"] == 2


def test_mlflow_holds_metrics_pictures_configuration_and_the_data_digest(finished):
    from mlflow import MlflowClient

    _, out, store, _ = finished
    client = MlflowClient(store)
    run = client.get_run((out / "mlflow_run.txt").read_text())
    assert run.info.status == "FINISHED"
    assert run.data.params["train.batch"] == "2"
    assert {"samples/kernel_distance", "critic/loss"} <= set(run.data.metrics)
    assert 0 < run.data.metrics["system/system_memory_usage_percentage"] < 100
    assert (
        run.inputs.dataset_inputs[0].dataset.digest
        == (json.loads((out / "model" / "config.json").read_text())["facts"]["data_digest"][:32])
    )
    names = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {"samples", "model", "resolved.yaml"} <= names
    version = client.get_model_version_by_alias("tiny", "challenger")
    assert version.tags["git_revision"]
    assert version.tags["data_digest"]


def test_no_name_of_a_person_or_file_leaves_through_outputs_or_mlflow(finished):
    _, out, _, _ = finished
    private = {"manifest.json", "private_key.csv", "config.yaml"}
    for root in (out, out.parent / "mlartifacts"):
        for path in root.rglob("*"):
            assert "person" not in path.name
            if path.is_file() and path.name not in private and "cache" not in path.parts:
                data = path.read_bytes()
                assert b"person-0" not in data, path
                assert b"DOE_JANE" not in data, path
    database = (out.parent / "mlflow.db").read_bytes()
    assert b"person-0" not in database
    assert b"DOE_JANE" not in database
    for name in ("manifest.json", "private_key.csv"):
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600


def test_a_bad_file_is_refused_by_pseudonym_and_the_rest_goes_on(finished, caplog):
    done, out, _, _ = finished
    assert [r.code for r in done.refusals] == ["E_MAGIC"]
    assert done.results["index"].values == {
        "cases": 22, "train": 8, "validation": 3, "calibration": 9, "test": 2, "refused": 1,
        "manifest": str(out / "manifest.json"),
    }  # fmt: skip
    assert "E_MAGIC" in (out / "refused.csv").read_text()
    key = (out / "private_key.csv").read_text()
    assert "broken.nii.gz" in key
    assert done.refusals[0].case in key


def test_synthetic_scans_are_marked_and_readable_as_a_decathlon_set(finished):
    _, out, _, _ = finished
    folder = out / "synthetic"
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["numTraining"] == len(dataset["training"]) == 2
    for entry in dataset["training"]:
        image, label = (nibabel.load(folder / entry[key]) for key in ("image", "label"))
        assert image.shape == label.shape == (16, 16, 16)
        assert b"SYNTHETIC" in bytes(image.header["descrip"].tobytes())
        assert set(np.unique(label.get_fdata())) <= {0, 1}
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["synthetic"] is True
    assert provenance["smallest_component"] == 0.05


def test_running_it_again_changes_no_weight_and_trains_nothing(finished, same_site):
    _, out, store, source = finished
    before = (out / "model" / "model.safetensors").read_bytes()
    rows = (out / "metrics.jsonl").read_text()
    pipeline = write_pipeline(
        out.parent, ["index", "train", "calibrate"], tracking={"uri": store, "name": "tiny"}
    )
    run_pipeline(pipeline, [f"out={out}", f"data.source={source}"])
    assert (out / "model" / "model.safetensors").read_bytes() == before
    assert (out / "metrics.jsonl").read_text() == rows


def test_a_folder_with_a_training_on_other_scans_is_not_continued(finished, tmp_path):
    _, out, _, _ = finished
    other = write_folder(tmp_path / "other", 20, seed=5)
    pipeline = write_pipeline(tmp_path, ["index", "train"])
    with pytest.raises(ConfigError, match="E_RESUME"):
        run_pipeline(pipeline, [f"out={out}", f"data.source={other}"])


def test_scans_without_labels_and_partly_labelled_ones_train(tmp_path):
    for name, labelled in (("none", 0), ("some", 6)):
        source = write_folder(tmp_path / name, 20)
        for path in sorted(source.glob("*_label.nii.gz"))[labelled:]:
            path.unlink()
        out = tmp_path / f"out-{name}"
        pipeline = write_pipeline(tmp_path, ["index", "train", "generate"])
        run_pipeline(pipeline, [f"out={out}", f"data.source={source}", "train.volumes=4"])
        assert (out / "synthetic" / "labelsTr").is_dir() == bool(labelled)


def test_without_a_single_usable_scan_it_says_so(tmp_path):
    (tmp_path / "scans").mkdir()
    pipeline = write_pipeline(tmp_path, ["index"])
    with pytest.raises(DataError, match="E_NO_SCANS"):
        run_pipeline(pipeline, [f"out={tmp_path / 'o'}", f"data.source={tmp_path / 'scans'}"])
    (tmp_path / "scans" / "a.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match="E_NO_SCANS"):
        run_pipeline(pipeline, [f"out={tmp_path / 'o'}", f"data.source={tmp_path / 'scans'}"])


@pytest.mark.fault(40)
def test_two_runs_in_one_folder_are_refused(tmp_path):
    out = tmp_path / "out"
    with locked(out), pytest.raises(EnvironmentFailure, match="E_BUSY"):
        run_pipeline("check", [f"out={out}", f"data.source={tmp_path}"])


@pytest.mark.fault(37)
def test_a_dead_server_stops_no_training_and_gets_it_later(finished, tmp_path, monkeypatch, caplog):
    source = write_folder(tmp_path / "scans", 12, labels=False)
    dead = "http://127.0.0.1:9"
    steps = ["index", "train", "calibrate"]
    pipeline = write_pipeline(tmp_path, steps, tracking={"uri": dead, "experiment": "e"})
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("medgan.tracking.mirror.SECONDS_AT_END", 0.1)
    out = tmp_path / "o"
    with caplog.at_level(logging.WARNING):
        run_pipeline(pipeline, [f"out={out}", f"data.source={source}"])
    rows = len((out / "metrics.jsonl").read_text().splitlines())
    assert f"MLflow has not got {rows} rows" in caplog.text
    assert f"medgan sync {out} with the same tracking.uri" in caplog.text
    assert f"medgan register {out / 'model'}" in caplog.text
    done = sync(out, [f"tracking.uri={finished[2]}"])
    pictures = len(list((out / "samples").glob("*.png")))
    assert (done.rows, done.pictures) == (rows, pictures)
    assert (done.settings, done.status) == (True, "FINISHED")


def test_a_wrong_address_stops_before_training(tmp_path):
    source = write_folder(tmp_path / "scans", 12, labels=False)
    pipeline = write_pipeline(tmp_path, ["index", "train"], tracking={"uri": "htp://server"})
    with pytest.raises(EnvironmentFailure, match="no store of MLflow"):
        run_pipeline(pipeline, [f"out={tmp_path / 'o'}", f"data.source={source}"])
    assert not (tmp_path / "o" / "model").exists()


@pytest.mark.parametrize("bad", ["alias=v1", "name=a/b", "experiment="])
def test_a_name_that_mlflow_refuses_stops_before_the_training_and_makes_no_store(bad, tmp_path):
    source = write_folder(tmp_path / "scans", 12, labels=False)
    pipeline = write_pipeline(tmp_path, ["index", "train"], tracking={"uri": ""})
    with pytest.raises(ConfigError, match=f"E_VALUE tracking.{bad.partition('=')[0]}"):
        run_pipeline(
            pipeline, [f"out={tmp_path / 'o'}", f"data.source={source}", f"tracking.{bad}"]
        )
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "o" / "cache").exists()


@pytest.mark.fault(37)
@pytest.mark.fault(39)
def test_a_server_that_dies_during_training_costs_only_the_mirror(
    tmp_path, fresh_store, monkeypatch, caplog
):
    from mlflow import MlflowClient

    def dead(*args: object, **kwargs: object) -> None:
        raise ConnectionError("gone")

    source = write_folder(tmp_path / "scans", 12, labels=False)
    store = f"sqlite:///{shutil.copy(fresh_store, tmp_path / 'mlflow.db')}"
    pipeline = write_pipeline(tmp_path, ["index", "train"], tracking={"uri": store})
    for name in ("log_batch", "log_artifact", "set_terminated"):
        monkeypatch.setattr(MlflowClient, name, dead)
    monkeypatch.setattr("medgan.tracking.mirror.SECONDS_AT_END", 0.1)
    out = tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        run_pipeline(pipeline, [f"out={out}", f"data.source={source}"])
    assert caplog.text.count("E_TRACKING") == 1
    assert len((out / "metrics.jsonl").read_text().splitlines()) >= 8
    assert (out / "model" / "model.safetensors").is_file()


def test_a_file_with_the_name_of_a_shipped_pipeline_does_not_stand_in_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "train.yaml", "mine"):
        (tmp_path / name).write_text("steps: [index]")
    assert find_pipeline("train") != Path("train")
    assert find_pipeline("train.yaml") == Path("train.yaml")
    assert find_pipeline("mine") == Path("mine")


def test_every_shipped_pipeline_is_valid_and_opens_with_its_command():
    folder = find_pipeline("demo").parent
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    assert {"demo", "train", "generate", "score", "register", "ixi_brain_2mm"} <= set(names)
    for name in names:
        steps, values = read_pipeline(name)
        assert set(steps) <= set(STEPS)
        build(values)
        first = find_pipeline(name).read_text().splitlines()[0]
        assert first.startswith(("# make ", "# medgan ")), name


def test_the_seed_of_a_training_draws_its_phantoms_too(tmp_path):
    pipeline = write_pipeline(tmp_path, ["phantoms"], phantoms={"subjects": [1, 1]})
    scans = {}
    for seed in (0, 1):
        run = run_pipeline(pipeline, [f"out={tmp_path / str(seed)}", f"train.seed={seed}"])
        images = sorted((run.out / "phantoms" / "images").iterdir())
        scans[seed] = [nibabel.load(path).get_fdata() for path in images]
    for one, other in zip(*scans.values(), strict=True):
        assert not np.array_equal(one, other)


def test_unknown_pipelines_keys_and_steps_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="E_MISSING"):
        read_pipeline("nonsense")
    for text in ("steps: [index, fly]", "stages: [index]", "- a"):
        path = tmp_path / "p.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError):
            read_pipeline(str(path))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("config: 3", "config is not a mapping"),
        ("steps: [index]\nconfig: [a, b]", "config is not a mapping"),
        ("steps: [index]\nconfig:", "config is not a mapping"),
        ("steps: index", "steps is not a list"),
        ("steps: {index: 1}", "steps is not a list"),
        ("steps: []", "steps is not a list"),
        ("steps:", "steps is not a list"),
        ("steps: [[index]]", "unknown step"),
        ("extends: [train]", "extends is not a name"),
        ("extends: 3", "extends is not a name"),
        ("extends: p", "extends itself (p.yaml -> p.yaml)"),
        ("extends: q", "extends itself (p.yaml -> q.yaml -> p.yaml)"),
        ("1: a\nb: c\nsteps: [index]", "the key 1 is not text"),
        ("steps: [index]\nconfig: {train: {3: 4}}", "the key 3 is not text"),
        ("b: c\nsteps: [index]", "unknown key b"),
        ("", "not a mapping"),
        ("- a", "not a mapping"),
    ],
)
def test_what_is_wrong_in_a_pipeline_file_is_said_in_one_line(text, what, tmp_path):
    (tmp_path / "p.yaml").write_text(text)
    (tmp_path / "q.yaml").write_text("extends: p")
    with pytest.raises(ConfigError) as caught:
        read_pipeline(str(tmp_path / "p.yaml"))
    assert caught.value.code in ("E_PIPELINE", "E_YAML")
    assert what in str(caught.value)
    assert caught.value.remedy


def test_a_file_named_train_extends_the_shipped_train(tmp_path):
    (tmp_path / "train.yaml").write_text("extends: train\nconfig: {train: {volumes: 77}}")
    steps, config = read_pipeline(str(tmp_path / "train.yaml"))
    shipped, defaults = read_pipeline("train")
    assert steps == shipped
    assert config == {**defaults, "train": {"volumes": 77}}


@pytest.mark.parametrize(
    "config", [{"train": 3}, {"train": [1]}, {"train": None}, {"data": "scans"}]
)
def test_a_section_that_is_no_mapping_is_refused_at_its_name(config, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"steps": ["index"], "config": config}))
    with pytest.raises(ConfigError) as caught:
        build(read_pipeline(str(path))[1])
    assert caught.value.code in ("E_VALUE", "E_KEY")
    assert str(next(iter(config))) in caught.value.where


@pytest.mark.parametrize(
    ("settings", "calibrate", "suggested"),
    [
        ([], False, ["generate"]),
        ([], True, ["generate", "score"]),
        (["train.task=restoration", "train.metric=restoration"], False, ["calibrate"]),
        (
            ["train.task=sequence", "data.labels=[]", "data.conditions={time: continuous}",
             "train.along=time"],
            False, ["series"],
        ),
    ],
)  # fmt: skip
def test_a_training_suggests_what_its_model_can_do(
    settings, calibrate, suggested, tmp_path, monkeypatch
):
    monkeypatch.setattr("medgan.training.fit.train_model", lambda *given: {})
    monkeypatch.setattr(Run, "manifest", lambda run: None)
    config = build(TINY, [f"out={tmp_path}", "tracking.uri=none", *settings])
    steps = ("index", "train", *(["scorers", "calibrate"] if calibrate else []))
    commands = train_step(Run(config, steps=steps)).commands
    assert [command.split()[1] for command in commands] == suggested
    assert all(" --along time " in command for command in commands if "series" in command)


@pytest.mark.parametrize(
    ("translator", "kind", "suggested"),
    [
        (Conversion("lesions", ("image",), ("image",), False), "", "medgan lesions models:/m@a "),
        (Conversion("translation", ("a",), ("b",), False), "", "medgan translate models:/m@a "),
        (None, "periodic", "medgan series models:/m@a seed:0 --along t "),
        (None, "continuous", "medgan generate models:/m@a "),
    ],
)
def test_a_registered_model_is_suggested_for_what_it_can_do(
    translator, kind, suggested, tmp_path, monkeypatch
):
    converting = translator and SimpleNamespace(conversion=translator)
    model = SimpleNamespace(
        networks=SimpleNamespace(synthesises=translator is None, translator=converting),
        preprocessing=SimpleNamespace(conditions=[SimpleNamespace(name="t", kind=kind)]),
        calibration=None, facts={},
    )  # fmt: skip
    monkeypatch.setattr("medgan.tracking.loading.load", lambda folder: model)
    monkeypatch.setattr("medgan.tracking.registry.register", lambda *given: 1)
    monkeypatch.setattr("medgan.app.steps.models.open_mlflow", lambda run: MagicMock())
    settings = ["tracking.uri=http://x", "tracking.name=m", "tracking.alias=a"]
    run = Run(build(TINY, [f"out={tmp_path}", *settings]), steps=("register",))
    (command,) = register_step(run).commands
    assert command.startswith(suggested)
