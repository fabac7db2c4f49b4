import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest

from medgan.app.doctor import examine, exit_status, machine, places, software, store
from medgan.core.errors import Exit
from medgan.data.pseudonyms import Pseudonyms, salt_file
from tests.kit.command_line import inside
from tests.kit.nobody import open_folder, without_rights


@pytest.fixture(autouse=True)
def no_store_named(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def full(folder):
    raise OSError(28, "No space left on device")


def installed(monkeypatch, **versions):
    """These versions in place of those that are installed."""
    real = software._version
    monkeypatch.setattr(software, "_version", lambda name: versions.get(name, real(name)))


def migrated(path, revision):
    """A database as MLflow leaves it, as far as its revision goes."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values (?)", [revision])
    return f"sqlite:///{path}"


def test_the_verb_names_everything_without_a_path_host_or_user(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://jane:secret@mlflow.clinic.example:9/x")
    monkeypatch.setattr(store, "SECONDS", 0.05)
    monkeypatch.setattr(
        store.urllib.request, "urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("jane"))
    )
    Pseudonyms.of_site()
    done = inside("doctor", "-o", tmp_path / "DOE_JANE", "--json")
    findings = {f["name"]: f for f in json.loads(done.stdout)["findings"]}
    for name in (
        *("python", "medgan", "torch", "monai", "mlflow", "nibabel", "DICOM", "device", "memory"),
        *("output disk", "temporary folder", "output folder", "cache folder", "site's secret"),
        *("MLflow store", "telemetry"),
    ):
        assert findings[name]["level"] in ("ok", "warning", "failure")
        assert (findings[name]["remedy"] == "") == (findings[name]["level"] == "ok"), name
    assert done.returncode == 4
    assert findings["MLflow store"]["level"] == "failure"
    text = done.stdout + inside("doctor", "-o", tmp_path / "DOE_JANE").stdout
    private = [
        str(tmp_path),
        "DOE_JANE",
        "jane",
        "clinic",
        os.uname().nodename,
        salt_file().read_text(),
    ]
    for word in private:
        assert word not in text
    assert not (tmp_path / "DOE_JANE").exists()


def test_it_is_quick_because_it_imports_neither_mlflow_nor_monai(tmp_path):
    code = (
        "import sys; from pathlib import Path; from medgan.app.doctor import examine, machine; "
        "machine.device = machine.memory; "  # torch is looked at by others
        f"examine(Path({str(tmp_path)!r})); print('mlflow' in sys.modules, 'monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_bad_versions_are_failures_that_say_why(monkeypatch):
    installed(monkeypatch, torch="2.9.1", scipy="1.18.0", mlflow="", lightning="2.6.2")
    found = {f.name: f for f in software.versions()}
    bad = {name for name, finding in found.items() if finding.level == "failure"}
    assert bad == {"torch", "scipy", "mlflow", "lightning"}
    assert "Conv3d" in found["torch"].what
    assert "malicious" in found["lightning"].what
    assert found["mlflow"].what == "is not installed"
    installed(monkeypatch, torch="2.13.0+cpu", scipy="1.17.1", mlflow="3.17.2", lightning="")
    assert {f.level for f in software.versions()} == {"ok"}


@pytest.mark.fault(25)
def test_a_missing_decoder_is_named_and_so_is_a_missing_pydicom(monkeypatch):
    found = software.of_decoders({"JPEG": ("pillow",), "JPEG-LS": ()})
    assert (found.level, "JPEG-LS" in found.what, "JPEG (pillow)" in found.what) == (
        "warning", True, True,
    )  # fmt: skip
    assert software.of_decoders({"RLE": ("pydicom",)}).level == "ok"
    installed(monkeypatch, pydicom="")
    assert software.dicom_decoders().level == "warning"


def test_a_disk_that_is_full_fails_and_one_that_fills_up_is_warned_of(tmp_path, monkeypatch):
    def free(count):
        usage = SimpleNamespace(total=2**40, used=0, free=count)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        return machine.disk("output disk", tmp_path / "none" / "yet").level

    assert [free(n) for n in (2**20, 2 * 2**30, 2**36)] == ["failure", "warning", "ok"]
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: full(dir))
    found = places.output(tmp_path)
    assert (found.level, "no space left" in found.what) == ("failure", True)


@pytest.mark.fault("read-only")
def test_folders_without_the_right_to_write_are_failures(monkeypatch, measured):
    with open_folder() as place:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "home"))
        place.chmod(0o555)
        with without_rights():
            found = [
                places.output(place / "out"),
                places.secret(),
                store.tracking(place / "a" / "out", ""),
            ]
        place.chmod(0o777)
    assert [(f.level, "denied" in f.what) for f in found] == [("failure", True)] * 3
    measured(f"the doctor names {len(found)} folders of 3")


def test_an_output_that_is_a_file_or_lies_where_nobody_may_look_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert places.output(tmp_path / "file").level == "failure"

    def denied(self, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.stat", denied)
    assert machine.nearest(tmp_path / "none") == tmp_path


def test_a_secret_that_others_may_read_or_that_is_damaged_is_noticed():
    assert places.secret().level == "ok"
    assert not salt_file().exists()
    Pseudonyms.of_site()
    assert places.secret().level == "ok"
    salt_file().chmod(0o644)
    assert (places.secret().level, "644" in places.secret().what) == ("warning", True)
    salt_file().write_text("00")
    assert places.secret().level == "failure"


def test_memory_and_device_are_judged(monkeypatch):
    monkeypatch.setattr(machine, "total_ram", lambda: 2**34)
    levels = []
    for free in (2**30, 4 * 2**30, 2**34):
        monkeypatch.setattr(machine, "free_ram", lambda free=free: free)
        levels.append(machine.memory().level)
    assert levels == ["failure", "warning", "ok"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(machine, "_nvidia", lambda: True)
    assert machine.device().level == "warning"
    monkeypatch.setattr(machine, "_nvidia", lambda: False)
    assert machine.device().level == "ok"


def test_the_store_is_none_yet_reachable_older_newer_or_damaged(tmp_path):
    out = tmp_path / "run"
    assert "none yet" in store.tracking(out, "").what
    known = store._revisions()
    newest = (set(known) - set(known.values())).pop()
    older = known[newest]
    for revision, level in ((newest, "ok"), (older, "warning"), ("0123456789ab", "failure")):
        path = tmp_path / f"{level}.db"
        uri = migrated(path, revision)
        before = path.read_bytes()
        assert store.tracking(out, uri).level == level, revision
        assert path.read_bytes() == before
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    assert "damaged" in store.tracking(out, "").what
    assert store.tracking(out, "none").level == "ok"


def test_the_file_store_trap_is_named_with_the_way_out(tmp_path, monkeypatch):
    assert store.tracking(tmp_path, str(tmp_path / "mlruns")).level == "failure"
    assert "migrate-filestore" in store.tracking(tmp_path, f"file://{tmp_path}").remedy
    assert list(store.old_file_store(tmp_path)) == []
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("name: Default\n")
    (found,) = store.old_file_store(tmp_path)
    assert (found.level, "migrate-filestore" in found.remedy) == ("warning", True)


def test_a_server_is_reachable_refuses_or_does_not_answer(tmp_path):
    status = [200]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status[0] if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://user:secret@127.0.0.1:{server.server_port}"
    try:
        assert store.tracking(tmp_path, uri).level == "ok"
        status[0] = 403
        found = store.tracking(tmp_path, uri)
        assert (found.level, "403" in found.what) == ("warning", True)
    finally:
        server.shutdown()
        server.server_close()
    found = store.tracking(tmp_path, uri)
    assert found.level == "failure"
    assert "secret" not in str(found)


def test_status_is_4_where_anything_failed_and_0_with_warnings(tmp_path):
    findings = examine(tmp_path, "none")
    ok = [f for f in findings if f.level != "failure"]
    assert exit_status(ok) is Exit.DONE
    assert exit_status([*ok, places.Finding("x", "failure", "y", "z")]) is Exit.ENVIRONMENT
