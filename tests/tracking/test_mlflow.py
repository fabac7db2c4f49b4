"""Runs and models in a real SQLite store: each fault has a line of its own and leaves no trace."""

import logging
import shutil
import sqlite3
from contextlib import closing

import pytest
from mlflow import MlflowClient

from medgan.core.errors import ConfigError, EnvironmentFailure, Interrupted
from medgan.core.files import write_atomic
from medgan.tracking.client import connect, database_file, sqlite_uri
from medgan.tracking.mlflow import PARENT_FILE, MlflowRun
from medgan.tracking.names import check_names
from medgan.tracking.record import Record
from medgan.tracking.registry import download, register


def sql(database, statement):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()


def make_read_only(database):
    """SQLite only reads files of a newer write version (byte 18), whoever the user is."""
    content = bytearray(database.read_bytes())
    content[18] = 3
    database.write_bytes(content)


def statuses(client):
    experiments = [one.experiment_id for one in client.search_experiments()]
    return [run.info.status for run in client.search_runs(experiments)]


@pytest.mark.parametrize(
    ("names", "where", "text"),
    [
        ({"experiment": ""}, "tracking.experiment", "is empty"),
        ({"experiment": "x" * 501}, "tracking.experiment", "501 characters"),
        ({"experiment": "a\nb"}, "tracking.experiment", "control character"),
        ({"name": "a/b"}, "tracking.name", "'a/b' is no model name"),
        ({"name": "a:b"}, "tracking.name", "no model name"),
        ({"name": "a b"}, "tracking.name", "no model name"),
        ({"name": "a@b"}, "tracking.name", "no model name"),
        ({"name": ".."}, "tracking.name", "no model name"),
        ({"name": " "}, "tracking.name", "is empty"),
        ({"name": "x" * 251}, "tracking.name", "251 characters"),
        ({"alias": "v1"}, "tracking.alias", "reserves 'v1'"),
        ({"alias": "V12"}, "tracking.alias", "reserves"),
        ({"alias": "latest"}, "tracking.alias", "reserves"),
        ({"alias": "Latest"}, "tracking.alias", "reserves"),
        ({"alias": "a b"}, "tracking.alias", "'a b' is no alias"),
        ({"alias": "a/b"}, "tracking.alias", "is no alias"),
        ({"alias": ""}, "tracking.alias", "is empty"),
        ({"alias": "x" * 256}, "tracking.alias", "256 characters"),
        ({"alias": "a\n"}, "tracking.alias", "control character"),
    ],
)
def test_a_name_that_mlflow_would_refuse_is_refused_with_its_setting(names, where, text):
    with pytest.raises(ConfigError) as caught:
        check_names(**names)
    assert (caught.value.code, caught.value.where) == ("E_VALUE", where)
    assert text in caught.value.what


def test_usual_names_are_accepted_by_the_check_and_by_mlflow(database, model_folder):
    uri = sqlite_uri(database)
    for experiment, name, alias in (("/Users/me/x y", "brain-2mm_T1.v2", "V1b"), ("é", "é", "é")):
        check_names(experiment, name, alias)
        with MlflowRun(uri, experiment, model_folder.parent) as run:
            register(run.model(model_folder), uri, name, alias, {"a": "b"})
        folder = download(f"models:/{name}@{alias}", uri, model_folder.parent / "back")
        assert (folder / "model.safetensors").read_bytes() == b"weights"
        shutil.rmtree(folder)


@pytest.mark.parametrize("bad", [{"name": "a/b"}, {"alias": "v1"}, {"alias": "a b"}])
def test_a_bad_name_is_refused_before_anything_is_registered(bad, database, model_folder):
    uri = sqlite_uri(database)
    with pytest.raises(ConfigError), MlflowRun(uri, "e", model_folder.parent) as run:
        register(run.model(model_folder), uri, **{"name": "n", "alias": "a"} | bad, tags={})
    client = MlflowClient(uri, uri)
    assert client.search_registered_models() == []
    assert statuses(client) == ["FAILED"]


@pytest.mark.parametrize("fault", [ConnectionError("gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["create_model_version", "set_registered_model_alias"])
@pytest.mark.parametrize("known", [False, True])
def test_a_failed_registration_leaves_no_version_and_no_running_run(
    known, call, fault, database, model_folder, monkeypatch
):
    def broken(*_, **__):
        raise fault

    uri = sqlite_uri(database)
    client = MlflowClient(uri, uri)
    with MlflowRun(uri, "e", model_folder.parent) as run:
        model = run.model(model_folder)
        if known:
            register(model, uri, "n", "a", {})
    monkeypatch.setattr(MlflowClient, call, broken)
    expected = EnvironmentFailure if isinstance(fault, Exception) else KeyboardInterrupt
    with pytest.raises(expected), MlflowRun(uri, "e", model_folder.parent):
        register(model, uri, "n", "a", {})
    assert len(client.search_model_versions("name='n'")) == known
    assert len(client.search_registered_models()) == known
    assert statuses(client) == ["FAILED" if expected is EnvironmentFailure else "KILLED"]


def test_a_model_that_exists_without_versions_outlives_a_failed_registration(
    database, model_folder, monkeypatch
):
    def broken(*_, **__):
        raise ConnectionError("gone")

    uri = sqlite_uri(database)
    client = MlflowClient(uri, uri)
    client.create_registered_model("n", description="kept")
    with MlflowRun(uri, "e", model_folder.parent) as run:
        model = run.model(model_folder)
    monkeypatch.setattr(MlflowClient, "create_registered_model", broken)
    with pytest.raises(EnvironmentFailure):
        register(model, uri, "n", "a", {})
    assert client.get_registered_model("n").description == "kept"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (ValueError(), "FAILED"),
        (SystemExit(), "KILLED"),
        (Interrupted("E_STOPPED", "medgan", "asked to stop", "again"), "KILLED"),
    ],
)
def test_a_run_ends_with_what_it_encloses(error, status, database, tmp_path):
    uri = sqlite_uri(database)
    try:
        with MlflowRun(uri, "e", tmp_path):
            if error is not None:
                raise error
    except type(error):
        pass
    assert statuses(MlflowClient(uri, uri)) == [status]


def test_a_run_whose_folder_cannot_be_written_is_not_begun(database, tmp_path):
    uri = sqlite_uri(database)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="E_DISK"):
        MlflowRun(uri, "e", tmp_path / "file" / "run")
    assert statuses(MlflowClient(uri, uri)) == []


def test_a_deleted_experiment_is_named_with_how_to_restore_it(database, tmp_path):
    uri = sqlite_uri(database)
    with MlflowRun(uri, "e", tmp_path) as run:
        pass
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("e").experiment_id
    client.delete_experiment(experiment)
    with pytest.raises(EnvironmentFailure, match=r"E_TRACKING tracking\.experiment.*deleted") as e:
        MlflowRun(uri, "e", tmp_path)
    assert f"restore --experiment-id {experiment}" in e.value.remedy
    client.restore_experiment(experiment)
    assert MlflowRun(uri, "e", tmp_path).run_id == run.run_id


def test_a_deleted_run_is_begun_anew(database, tmp_path):
    uri = sqlite_uri(database)
    with MlflowRun(uri, "e", tmp_path) as run:
        pass
    MlflowClient(uri, uri).delete_run(run.run_id)
    assert MlflowRun(uri, "e", tmp_path).run_id != run.run_id


def newer(database):
    sql(database, "update alembic_version set version_num = 'ffffffffffff'")


def older(database):
    sql(database, "update alembic_version set version_num = 'bd07f7e963c5'")


def damaged(database):
    database.write_bytes(b"no database" * 100)


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        (make_read_only, "read-only", "permission to write"),
        (newer, "newer MLflow", "install that version"),
        (older, "older MLflow", "mlflow db upgrade"),
        (damaged, "damaged", "backup"),
    ],
)
def test_a_store_that_cannot_be_used_says_why_without_its_path(
    change, what, remedy, database, tmp_path, caplog, capfd
):
    change(database)
    with caplog.at_level(logging.WARNING), pytest.raises(EnvironmentFailure) as caught:
        MlflowRun(sqlite_uri(database), "e", tmp_path)
    error = caught.value
    assert error.code == "E_TRACKING"
    assert what in error.what
    assert remedy in error.remedy
    printed = "".join(capfd.readouterr())
    for secret in (str(tmp_path), "INSERT", "Traceback"):
        assert secret not in str(error) + caplog.text + printed


@pytest.mark.slow  # waits five seconds for the lock
def test_a_locked_store_and_a_folder_that_cannot_be_written(database, tmp_path, monkeypatch):
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("begin exclusive")
        monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "1")
        with pytest.raises(EnvironmentFailure, match="another program has locked the store"):
            connect(sqlite_uri(database), write=True)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("medgan.core.files.FileLock.acquire", refused)
    with pytest.raises(EnvironmentFailure, match="E_TRACKING MLflow: the store is read-only"):
        connect(sqlite_uri(database), write=True)


def test_models_are_read_from_a_store_and_a_folder_that_cannot_be_written(
    database, model_folder, tmp_path, monkeypatch
):
    uri = sqlite_uri(database)
    with MlflowRun(uri, "e", model_folder.parent) as run:
        register(run.model(model_folder), uri, "n", "a", {})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = elsewhere / "mlflow.db"
    shutil.copy(database, copy)
    make_read_only(copy)
    download("models:/n@a", sqlite_uri(copy), tmp_path / "back")
    assert [path.name for path in elsewhere.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("name", ["a b", "50%", "100%25", "what?", "a#1", "a&b=c", "é"])
def test_a_store_beside_any_output_folder_is_where_it_should_be(
    name, fresh_store, model_folder, tmp_path
):
    folder = tmp_path / name
    folder.mkdir()
    database = folder / "mlflow.db"
    shutil.copy(fresh_store, database)
    uri = sqlite_uri(database)
    assert database_file(uri) == database
    with MlflowRun(uri, "e", folder / "run") as run:
        model = run.model(model_folder)
        register(model, uri, "n", "a", {})
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select count(*) from model_versions").fetchone() == (1,)
    for address in (model, "models:/n@a", "models:/n/1"):
        found = download(address, uri, tmp_path / "back" / address.replace("/", "-"))
        assert (found / "model.safetensors").read_bytes() == b"weights"
    assert {path.name for path in folder.iterdir()} >= {"mlflow.db", "mlartifacts", "run"}


@pytest.mark.parametrize("name", ["what?", "a%20b"])
def test_a_uri_that_means_another_file_is_refused(name, tmp_path):
    (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=r"E_VALUE tracking\.uri.*%25 for % and %3F for \?"):
        connect(f"sqlite:///{tmp_path / name / 'mlflow.db'}", write=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("http://127.0.0.1:9", "does not answer"),
        ("htp://server", "no store of MLflow"),
        ("runs/mlruns", "folder of files"),
    ],
)
def test_other_stores_say_what_is_wrong_with_them(uri, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(EnvironmentFailure, match=what) as caught:
        connect(uri, write=True)
    assert caught.value.code == "E_TRACKING"


def test_models_that_are_not_there_say_what_is_missing(database, model_folder, tmp_path):
    uri = sqlite_uri(database)
    with MlflowRun(uri, "e", model_folder.parent) as run:
        model = run.model(model_folder)
        register(model, uri, "n", "a", {})
    for address in ("models:/m@a", "models:/n@b", "models:/n/2", "runs:/0123/model/x"):
        with pytest.raises(EnvironmentFailure, match=f"{address}: not found"):
            download(address, uri, tmp_path / "back")
    for address in ("models:/n", "models:/n@", "models:/n/latest", "runs:/1", "models:/n/1/x"):
        with pytest.raises(ConfigError, match=r"E_USAGE.*is no URI of a model"):
            download(address, uri, tmp_path / "back")
    shutil.rmtree(tmp_path / "mlartifacts")
    for address in (model, "models:/n@a"):
        with pytest.raises(EnvironmentFailure, match="files cannot be read"):
            download(address, uri, tmp_path / "back")


def test_a_run_whose_id_was_not_written_down_is_found_again_by_its_mark(database, tmp_path):
    uri = sqlite_uri(database)
    run = MlflowRun(uri, "e", tmp_path)  # the process dies here, before it knows the answer
    (tmp_path / "mlflow_run.txt").unlink()
    assert MlflowRun(uri, "e", tmp_path).run_id == run.run_id
    assert len(statuses(MlflowClient(uri, uri))) == 1


def test_a_run_belongs_to_that_of_another_folder_whichever_is_opened_first(database, tmp_path):
    sweep, uri = tmp_path / "sweep", sqlite_uri(database)
    for name in ("trial-000", "trial-001"):
        write_atomic(sweep / name / PARENT_FILE, "..")
    child = MlflowRun(uri, "nested", sweep / "trial-000")
    parent = MlflowRun(uri, "nested", sweep)
    other = MlflowRun(uri, "nested", sweep / "trial-001")
    client = connect(uri)
    for run in (child, other):
        assert client.get_run(run.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
    assert client.get_run(parent.run_id).info.run_name == "sweep"


def test_more_than_a_hundred_parameters_are_all_recorded(database, tmp_path):
    uri = sqlite_uri(database)
    (tmp_path / "c.yaml").touch()
    with MlflowRun(uri, "e", tmp_path) as run:
        run.describe(Record({f"p{n}": n for n in range(250)}, {"t": "1"}), tmp_path / "c.yaml")
    data = MlflowClient(uri, uri).get_run(run.run_id).data
    assert (len(data.params), data.tags["t"]) == (250, "1")
