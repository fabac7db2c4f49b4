"""The group's server: PostgreSQL, S3 and accounts; train, register, promote, serve, score.

make test-server
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from medgan.tracking.client import connect, sqlite_uri
from medgan.tracking.versions import registered_models, version_behind
from tests.kit.command_line import MEDGAN, inside
from tests.kit.data_sets import TINY, write_folder
from tests.kit.server_stack import ADMIN, KEYS, PASSWORD, ServerStack, postgresql

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgresql() is None, reason="PostgreSQL is not installed"),
]
ROOT = Path(__file__).parents[2]
GATE = {
    "extends": "gate",
    "config": {"gate": {"audit": False, "limits": {
        "kernel_distance": {"most": 1000.0}, "auroc": None, "average_precision": None,
        "false_alarms": {"most": 0.05}, "not_comparable": {"most": 1.0},
    }}},
}  # fmt: skip
SPLITS = {"fractions": [0.3, 0.1, 0.3, 0.3]}


def password(user):
    return f"a long password of {user}"


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("scans") / "healthy", 40, labels=False)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with ServerStack(tmp_path_factory.mktemp("servers")) as stack:
        before = dict(os.environ)
        os.environ |= stack.account(ADMIN, PASSWORD)
        for user in ("ann", "reader", *(f"user{n}" for n in range(5))):
            stack.add_user(user, password(user))
        yield stack
        os.environ.clear()
        os.environ |= before


@pytest.fixture
def login(stack):
    """Changes the account of everything that follows."""

    def change(user):
        os.environ |= stack.account(user, password(user))

    return change


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A training of a second or two that ends in the register."""
    path = tmp_path_factory.mktemp("pipeline") / "tiny.yaml"
    config = {
        **{key: value for key, value in TINY.items() if key != "tracking"},
        "data": {**TINY["data"], **SPLITS, "labels": []}, "localiser": {"volumes": 0},
        "score": {"scorers": ["density"]}, "tracking": {"name": "brain"},
    }  # fmt: skip
    steps = ["index", "train", "scorers", "calibrate", "register"]
    path.write_text(yaml.safe_dump({"steps": steps, "config": config}))
    return path


def verb(*arguments, status=0):
    done = inside(*arguments, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def promote(folder, scans, status=0):
    gate = folder / "gate.yaml"
    gate.write_text(yaml.safe_dump({**GATE, "config": {**GATE["config"], "data": SPLITS}}))
    return verb(
        "promote", "brain", "--data", scans, "--gate", gate, "-o", folder / "promote", "--replace",
        status=status,
    )  # fmt: skip


def test_a_group_trains_registers_promotes_serves_and_scores_and_a_reader_only_reads(
    stack, login, pipeline, scans, tmp_path
):
    login("ann")
    done = verb("run", pipeline, "--data", scans, "-o", tmp_path / "run")
    assert done["register"]["version"] == "1"
    client = connect(stack.uri)
    (run,) = client.search_runs(["1"], "metrics.volumes_seen > 0") or client.search_runs(["1"])
    assert run.data.metrics["critic/loss"]
    assert promote(tmp_path, scans)["gate"]["passed"]

    login("reader")
    scored = verb("score", "models:/brain@champion", scans, "-o", tmp_path / "score")
    assert scored["score"]["scans"] == 40
    with serving(scans) as (server, address):
        assert served_version(address) == "brain/1"

        login("ann")
        verb("run", pipeline, "--data", scans, "-o", tmp_path / "run2", "--set", "train.seed=1")
        login("reader")
        refused = promote(tmp_path, scans, status=4)["error"]
        assert refused["what"] == "the server refuses access"
        model = tmp_path / "run" / "model"
        verb("register", model, "--name", "brain", "-o", tmp_path / "other", status=4)
        login("ann")
        (brain,) = registered_models(stack.uri, "brain")
        assert [version.number for version in brain.versions] == ["2", "1"]
        assert len(brain.history.records) == 1

        assert promote(tmp_path, scans)["gate"]["passed"]
        assert version_behind("models:/brain@champion", stack.uri) == "models:/brain/2"
        ends = time.monotonic() + 120
        while served_version(address) != "brain/2":
            assert time.monotonic() < ends
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


@contextmanager
def serving(scans):
    """The champion, served in a process of its own that ends with the test."""
    command = [*MEDGAN, "serve", "models:/brain@champion", "--root", str(scans), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server, server.stdout.readline().split()[1].rstrip("/")
        finally:
            server.kill()


def served_version(address):
    """Of the model behind a score, which must be there."""
    name = "person-00.nii.gz"
    request = urllib.request.Request(
        f"{address}/v1/score", json.dumps({"path": name}).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=120) as answer:
        found = json.load(answer)
    assert found["score"] is not None
    return found["model"]["version"]


def test_five_users_train_and_register_at_once(stack, pipeline, scans, tmp_path):
    users = [f"user{n}" for n in range(5)]
    running = []
    for user in users:
        environment = {**os.environ, **stack.account(user, password(user)), "OMP_NUM_THREADS": "1"}
        running.append(subprocess.Popen(
            [*MEDGAN, "run", str(pipeline), "--data", str(scans), "-o", str(tmp_path / user),
             "--set", f"tracking.name=model-of-{user}", "--set", f"tracking.experiment={user}",
             "--json"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ))  # fmt: skip
    outputs = [process.communicate(timeout=600) for process in running]
    for process, (out, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors[-2000:]
        assert json.loads(out)["register"]["version"] == "1"
    os.environ |= stack.account(ADMIN, PASSWORD)
    names = {model.name for model in registered_models(stack.uri)}
    assert {f"model-of-{user}" for user in users} <= names


def test_a_store_moves_from_sqlite_to_postgresql_with_its_artifacts(
    stack, pipeline, scans, tmp_path
):
    old = sqlite_uri(tmp_path / "mlflow.db")
    store = ("--set", f"tracking.uri={old}")
    verb("run", pipeline, "--data", scans, "-o", tmp_path / "run", *store)
    subprocess.run(
        [postgresql() / "createdb", "-h", "127.0.0.1", "-p", str(stack.database_port), "-U",
         "postgres", "moved"], check=True,
    )  # fmt: skip
    move = [sys.executable, str(ROOT / "deploy" / "move_store.py"), old, stack.database("moved"),
            "--artifacts", "s3://mlflow"]  # fmt: skip
    environment = {**os.environ, **KEYS, "MLFLOW_S3_ENDPOINT_URL": stack.s3}
    done = subprocess.run(move, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(move, env=environment, capture_output=True, text=True)
    assert again.returncode == 1
    assert "empty" in again.stderr

    before, after = connect(old), connect(stack.database("moved"))
    ids = [e.experiment_id for e in before.search_experiments()]
    assert ids == [e.experiment_id for e in after.search_experiments()]
    (run,), (moved,) = before.search_runs(ids), after.search_runs(ids)
    assert moved.data == run.data or moved.data.to_dictionary() == run.data.to_dictionary()
    history = [before.get_metric_history(run.info.run_id, "critic/loss"),
               after.get_metric_history(run.info.run_id, "critic/loss")]  # fmt: skip
    assert [vars(m) for m in history[0]] == [vars(m) for m in history[1]]
    assert moved.info.artifact_uri.startswith("mlflow-artifacts:/moved/")
    created = after.create_experiment("one more")
    assert int(created) > max(map(int, ids))
    (version,) = registered_models(stack.database("moved"), "brain")[0].versions
    assert version.source.startswith("mlflow-artifacts:/moved/")
    listed = list_bucket(stack)
    assert any(key.startswith("moved/") and key.endswith("/config.json") for key in listed)
    kept = [p for p in (tmp_path / "mlartifacts").rglob("*") if p.is_file()]
    assert len([key for key in listed if key.startswith("moved/")]) == len(kept)


def list_bucket(stack):
    import boto3

    client = boto3.client(
        "s3", endpoint_url=stack.s3, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    found = client.list_objects_v2(Bucket="mlflow").get("Contents", [])
    client.close()
    return [one["Key"] for one in found]
