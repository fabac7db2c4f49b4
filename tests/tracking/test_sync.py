"""`medgan sync` into a real SQLite store, which the tests of this folder share."""

import json
import math

import pytest
from mlflow import MlflowClient

from medgan.app.sync import sync
from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.core.files import locked
from medgan.tracking.client import sqlite_uri
from medgan.tracking.mlflow import PARENT_FILE, MlflowRun
from medgan.tracking.new_rows import NewRows
from medgan.tracking.record import Record, recorded
from medgan.tracking.tracker import METRICS, JsonlTracker
from tests.kit.command_line import inside


@pytest.fixture
def trained(tmp_path):
    """A folder as a training without MLflow leaves it."""
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "000000004.png").write_bytes(b"picture")
    (folder / "resolved.yaml").write_text("tracking: {experiment: of the training}\n")
    record = Record({"train.batch": 2}, {"medgan": "1"}, "d" * 64, {"train": 8})
    with recorded(record, folder, resumes=False):
        jsonl = JsonlTracker(folder / METRICS)
        for number in range(5):
            jsonl.log({"critic/loss": number / 10, "samples/age ß?": math.nan}, 2 * number)
    return folder


def test_a_training_without_a_server_is_sent_whole_and_a_second_time_nothing(trained, database):
    uri = sqlite_uri(database)
    done = sync(trained, [f"tracking.uri={uri}"])
    assert (done.rows, done.pictures, done.settings, done.status) == (5, 1, True, "FINISHED")
    client = MlflowClient(uri, uri)
    run = client.get_run(done.run)
    record = Record.read(trained)
    assert (run.info.status, run.data.params) == ("FINISHED", {"train.batch": "2"})
    assert (run.info.start_time, run.info.end_time) == (record.started, record.ended)
    assert client.get_experiment(run.info.experiment_id).name == "of the training"
    assert run.inputs.dataset_inputs[0].dataset.digest == "d" * 32
    assert {file.path for file in client.list_artifacts(done.run)} == {"samples", "resolved.yaml"}
    points = client.get_metric_history(done.run, "critic/loss")
    assert [(p.step, p.value) for p in points] == [(2 * n, n / 10) for n in range(5)]
    again = sync(trained, [f"tracking.uri={uri}"])
    assert again.lines() == [f"MLflow run {done.run}: nothing was missing"]
    (trained / "mlflow_sent.json").unlink()  # as if no answer had ever arrived
    (trained / "mlflow_run.txt").write_text(done.run)
    assert sync(trained, [f"tracking.uri={uri}"]).rows == 5
    for name in ("critic/loss", "samples/age ß_"):
        assert len(client.get_metric_history(done.run, name)) == 5


def test_a_killed_training_is_killed_in_mlflow_and_goes_on_in_the_same_run(trained, database):
    uri = sqlite_uri(database)
    path = trained / "tracking.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "RUNNING", "ended": 0}))
    first = sync(trained, [f"tracking.uri={uri}"])
    JsonlTracker(trained / METRICS, 4).log({"critic/loss": 9.0}, 6)
    with recorded(Record.read(trained), trained, resumes=True):
        pass
    second = sync(trained, [f"tracking.uri={uri}"])
    assert (first.status, second.status) == ("KILLED", "FINISHED")
    assert (second.run, second.rows, second.settings) == (first.run, 1, False)


def test_a_sweep_is_sent_with_its_trials_below_it(trained, database):
    (trained / "trial-000" / METRICS).parent.mkdir()
    (trained / "trial-000" / PARENT_FILE).write_text("..")
    (trained / "trial-000" / "resolved.yaml").write_bytes((trained / "resolved.yaml").read_bytes())
    JsonlTracker(trained / "trial-000" / METRICS).log({"critic/loss": 1.0}, 2)
    uri = sqlite_uri(database)
    done = inside("sync", trained, "--set", f"tracking.uri={uri}", "--json")
    found = json.loads(done.stdout)
    assert (found["rows"], [trial["rows"] for trial in found["trials"]]) == (5, [1])
    tags = MlflowClient(uri, uri).get_run(found["trials"][0]["run"]).data.tags
    assert tags["mlflow.parentRunId"] == found["run"]


def test_a_store_that_does_not_know_the_run_gets_a_new_one_and_each_keeps_its_own(
    trained, database, fresh_store
):
    other = trained.parent / "other.db"
    other.write_bytes(fresh_store.read_bytes())
    uris = [f"tracking.uri={sqlite_uri(one)}" for one in (database, other)]
    first, second, third = (sync(trained, [uris[n]]) for n in (0, 1, 0))
    assert (first.rows, second.rows, third.rows) == (5, 5, 0)
    assert first.run == third.run != second.run


def test_a_training_that_was_tracked_sends_only_what_is_missing(trained, database):
    uri = sqlite_uri(database)
    rows = NewRows(trained / METRICS).read(0, 4)
    assert len(rows) == 2
    run = MlflowRun(uri, "of the training", trained)
    run.log(rows)
    run.sent.time = rows[-1].time
    run.save()
    done = sync(trained, [f"tracking.uri={uri}"])
    assert (done.run, done.rows, done.status) == (run.run_id, 3, "FINISHED")


def test_rows_of_an_older_version_have_the_same_times_at_every_reading(tmp_path):
    path = tmp_path / METRICS
    path.write_text('{"volumes_seen": 2, "a": 1}\n{"volumes_seen": 4, "a": 2}\n{"volumes_s')
    first = NewRows(path).read(0, 1000)
    JsonlTracker(path, 10).log({"a": 3.0}, 6)
    second = NewRows(path).read(0, 1000)
    assert [row.step for row in second] == [2, 4, 6]
    assert second[:2] == first
    assert first[0].time < first[1].time < second[2].time


def test_what_cannot_be_sent_is_said_in_one_line(trained, tmp_path):
    cases = {
        ConfigError: [
            (tmp_path / "none", (), "E_MISSING"),
            (trained, ("tracking.uri=none",), "E_USAGE"),
            (trained, ("train.batch=2",), "E_SET"),
        ],
        EnvironmentFailure: [(trained, (), "E_BUSY")],
    }
    with locked(trained):
        for kind, calls in cases.items():
            for folder, overrides, code in calls:
                with pytest.raises(kind, match=code):
                    sync(folder, overrides)
    done = inside("sync", str(tmp_path / "none"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
