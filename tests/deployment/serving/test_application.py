"""The routes, as a client sees them."""

import asyncio
import gc
import gzip
import io
import json
import logging
import os
import re
import struct
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import medgan
from medgan.core.errors import ModelError
from medgan.core.nifti import read_nifti
from medgan.core.volume import Volume
from medgan.deployment.serving.archives import unpack
from medgan.deployment.serving.refusals import Refused
from medgan.deployment.serving.tokens import add_token
from medgan.model.model import Model
from tests.deployment.serving.conftest import AFFINE
from tests.kit.dicom import make_series, save

SCAN = {"path": "sub-DOE/scan.nii.gz"}


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_scan_by_path_and_by_upload_scores_as_the_model_does(serving, root, model_folder, left):
    client, _ = serving()
    expected = Model.load(model_folder).score(root / SCAN["path"])
    by_path = client.post("/v1/score", json=SCAN).json()
    raw = (root / SCAN["path"]).read_bytes()
    upload = {"scan": ("DOE^JANE.nii", raw, "text/plain")}
    uploaded = client.post("/v1/score/upload", files=upload, data={"page": "false"}).json()
    for answer in (by_path, uploaded):
        assert answer["score"] == pytest.approx(expected.score, abs=1e-5)
        assert answer["p_value"] == expected.p_value
        assert answer["reasons"] == list(expected.reasons)
        assert len(answer["regions"]) == len(expected.regions)
        assert answer["model"]["version"] == Model.load(model_folder).digest[:12]
    assert by_path["case"] != uploaded["case"]
    assert "DOE" not in json.dumps([by_path, uploaded])
    assert set(by_path["links"]) == {"map.nii.gz", "page.html"}
    assert set(uploaded["links"]) == {"map.nii.gz"}
    assert len(left()) == 2  # the results


def test_the_map_lies_on_the_grid_of_the_scan_and_the_page_shows_it(serving, root, tmp_path):
    client, _ = serving()
    answer = client.post("/v1/score", json=SCAN).json()
    map_ = client.get(answer["links"]["map.nii.gz"])
    assert map_.headers["content-type"] == "application/gzip"
    (tmp_path / "map.nii.gz").write_bytes(map_.content)
    found = read_nifti(tmp_path / "map.nii.gz", "the map").volume
    scan = Volume.load(root / SCAN["path"])
    assert found.data.shape == scan.data.shape
    np.testing.assert_array_equal(found.affine, scan.affine)
    expected = client.get(answer["links"]["page.html"])
    assert expected.headers["content-type"].startswith("text/html")
    assert answer["case"] in expected.text
    assert "../niivue/niivue.umd.js" in expected.text
    assert "All scans" not in expected.text  # there is no such page here
    assert client.get("/v1/results/niivue/niivue.umd.js").status_code == 200
    assert client.get(f"/v1/results/{answer['id']}").json() == answer


def test_a_zip_of_a_dicom_series_is_scored(serving, tmp_path, left):
    save(make_series("CT", seed=1, PatientName="DOE^JANE", PatientID="J1"), tmp_path / "ct")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((tmp_path / "ct").iterdir()):
            archive.write(path, f"DOE/{path.name}")
    client, _ = serving()
    answer = client.post("/v1/score/upload", files={"scan": packed.getvalue()})
    assert answer.status_code == 200, answer.text
    assert "DOE" not in answer.text
    assert len(left()) == 1


def test_synthetic_scans_are_drawn_by_seed_and_conditions(serving, model_folder, tmp_path):
    client, _ = serving(scans=2)
    asked = {"count": 2, "seed": 5, "conditions": {"age": 70, "sex": "F"}}
    answer = client.post("/v1/generate", json=asked).json()
    assert [scan["number"] for scan in answer["scans"]] == [0, 1]
    assert answer["scans"][0]["conditions"] == {"age": 70, "sex": "F"}
    expected = Model.load(model_folder).generate(2, 5, conditions=asked["conditions"])[1]
    for name, volume in (("", expected.image), ("-label", expected.label)):
        file = f"synthetic-s5-00001{name}.nii.gz"
        (tmp_path / file).write_bytes(client.get(answer["links"][file]).content)
        np.testing.assert_array_equal(Volume.load(tmp_path / file).data, volume.data)
    assert code(client.post("/v1/generate", json={"count": 3})) == (400, "E_VALUE")
    unknown = client.post("/v1/generate", json={"conditions": {"height": 3}})
    assert code(unknown) == (400, "E_CONDITION")


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    "path",
    ["../secret.nii.gz", "link.nii.gz", "{root}/../secret.nii.gz", "/etc/passwd", "absent.nii.gz",
     "sub-DOE/../../secret.nii.gz", "", "a\0b", "x" * 5000, "scan.nii.gz/../sub-DOE/no"],
)  # fmt: skip
def test_no_path_leads_out_of_the_served_folder(path, serving, root):
    client, _ = serving()
    answer = client.post("/v1/score", json={"path": path.format(root=root)})
    assert code(answer) == ((404, "E_PATH") if path else (400, "E_REQUEST"))
    same = client.post("/v1/score", json={"path": "/nowhere/at/all.nii.gz"}).json()
    assert not path or answer.json() == same


def test_paths_inside_may_be_absolute_or_links(serving, root):
    client, _ = serving()
    for path in (str(root / SCAN["path"]), "inner.nii.gz", "./sub-DOE/../sub-DOE/scan.nii.gz"):
        assert client.post("/v1/score", json={"path": path, "page": False}).status_code == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (422, "E_TRUNCATED")),
        (b"\x1f\x8b" + bytes(50), (422, "E_UNREADABLE")),
        (bytes(400), (422, "E_MAGIC")),
        (b"PK" + bytes(50), (422, "E_ARCHIVE")),
        (gzip.compress(bytes(2**20)), (422, "E_MAGIC")),
    ],
)
def test_an_upload_that_is_no_scan_leaves_nothing(body, expected, serving, left):
    client, _ = serving()
    answer = client.post("/v1/score/upload", files={"scan": ("DOE.nii.gz", body)})
    assert code(answer) == expected
    assert "DOE" not in answer.text
    assert left() == []


@pytest.mark.fault("zip bomb")
def test_what_is_too_large_is_refused_before_it_is_unpacked(serving, scans, tmp_path, left):
    client, _ = serving(upload_mb=1, unpacked_mb=1)
    assert code(client.post("/v1/score/upload", files={"scan": bytes(2**21)})) == (413, "E_UPLOAD")
    Volume(np.zeros((70, 70, 70), np.float32), AFFINE).save(tmp_path / "zeros.nii.gz")
    bomb = (tmp_path / "zeros.nii.gz").read_bytes()
    assert code(client.post("/v1/score/upload", files={"scan": bomb})) == (413, "E_UPLOAD")
    assert code(client.post("/v1/generate", content=b" " * 10**5)) == (413, "E_UPLOAD")
    assert left() == []


def test_forms_that_make_no_sense_are_refused_without_their_values(serving, root, left):
    client, _ = serving()
    scan = (root / SCAN["path"]).read_bytes()
    post = lambda **form: client.post("/v1/score/upload", **form)  # noqa: E731
    for answer in (
        post(content=scan),
        post(files={"other": scan}),
        post(data={"scan": "text"}),
        post(files={"scan": scan}, data={"covariates": "DOE"}),
        post(files={"scan": scan}, data={"covariates": '["DOE"]'}),
        post(files={"scan": scan}, data={"DOE": "x"}),
        post(content=b"--x\r\nDOE", headers={"content-type": "multipart/form-data; boundary=x"}),
        client.post("/v1/score", content=b"{DOE", headers={"content-type": "application/json"}),
        client.post("/v1/score", json={"DOE": 1, "covariates": {"DOE": [1]}}),
        client.post("/v1/score", json=SCAN | {"paths": {"DOE": "x"}}),
    ):
        assert code(answer) == (400, "E_REQUEST")
        assert "DOE" not in answer.text
    assert left() == []


def test_what_is_nested_too_deeply_or_no_unicode_is_refused(serving, root, left):
    client, _ = serving()
    scan = {"scan": (root / SCAN["path"]).read_bytes()}
    deep = client.post("/v1/score/upload", files=scan, data={"covariates": "[" * 16_000})
    assert code(deep) == (400, "E_REQUEST")
    kind = {"content-type": "application/json"}
    lone = [("/v1/score", b'{"path": "\\ud800"}'), ("/v1/score", b'{"paths": {"\\ud800": "x"}}'),
            ("/v1/generate", b'{"text": "\\ud800"}'),
            ("/v1/generate", b'{"conditions": {"\\ud800": 1}}')]  # fmt: skip
    for route, body in lone:
        answer = client.post(route, content=body, headers=kind)
        assert 400 <= answer.status_code < 500, answer.text
    assert left() == []


def test_a_folder_may_be_named_like_an_archive(serving, root):
    (root / "empty.zip").mkdir(exist_ok=True)
    client, _ = serving()
    assert code(client.post("/v1/score", json={"path": "empty.zip"})) == (422, "E_NO_SCANS")


@pytest.mark.fault("zip bomb")
@pytest.mark.parametrize("says", [2**26, 2**19])
def test_a_zip_bomb_is_refused_within_the_limit_whatever_it_says(says, tmp_path, measured):
    archive, folder, limit = tmp_path / "a.zip", tmp_path / "out", 2**20
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.dcm", bytes(2**26))
        packed.writestr("b.dcm", bytes(2**19))
    size = struct.pack("<L", 2**26)
    assert archive.read_bytes().count(size) == 2  # beside the file, and in the list of files
    archive.write_bytes(archive.read_bytes().replace(size, struct.pack("<L", says)))
    folder.mkdir()
    tracemalloc.start()
    with pytest.raises(Refused, match=r"more than 1 MB|damaged"):
        unpack(archive, folder, limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
    assert sum(path.stat().st_size for path in folder.iterdir()) <= limit
    measured(f"{archive.stat().st_size / 1e3:.0f} kB of 67 MB: {peak / 1e6:.1f} MB of memory")


def test_a_list_of_files_is_not_hidden_behind_a_comment(tmp_path):
    """Python's reader follows a ZIP64 record wherever it lies, whatever the end record says."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, *[0] * 7, 1, *[0] * 6) + b"a"
    entries = entry * 3
    parts = [
        struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, len(entries), 0),
        struct.pack("<4sLQL", b"PK\6\7", 0, len(entries), 1),
        struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), 0, 65535), bytes(65535),
    ]  # fmt: skip
    archive = tmp_path / "a.zip"
    archive.write_bytes(entries + b"".join(parts))
    assert len(zipfile.ZipFile(archive).infolist()) == 3
    with pytest.raises(Refused, match="huge archives"):
        unpack(archive, tmp_path, 2**20)


def asked(app, route, *messages):
    """The status of a request whose body comes in parts, and then no more."""
    waiting, found = list(messages), []
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": route, "raw_path": route.encode(),
             "query_string": b"", "headers": headers, "http_version": "1.1"}  # fmt: skip

    async def receive():
        if not waiting:
            await asyncio.sleep(5)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": True}

    async def send(message):
        found.append(message.get("status"))

    asyncio.run(app(scope, receive, send))
    return found[0]


def test_a_body_that_comes_too_slowly_or_without_end_is_broken_off(serving):
    client, _ = serving(timeout_s=0.3)
    for route in ("/v1/score", "/v1/generate"):
        assert asked(client.app, route, b"{") == 504
        assert asked(client.app, route, b" " * 2**15, b" " * 2**15, b" ") == 413


def test_the_folder_for_temporary_files_does_not_grow_old(serving, monkeypatch):
    monkeypatch.setattr("medgan.deployment.serving.application._SWEEP_S", 0.01)
    _, service = serving()
    paths = (service.scratch.folder, service.scratch.folder / ".lock")
    for path in paths:
        os.utime(path, (0, 0))
    end = time.monotonic() + 10
    while any(path.stat().st_mtime < 1 for path in paths):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_tokens_and_their_roles(serving, tmp_path):
    file = tmp_path / "tokens"
    tokens = {name: add_token(file, f"{name}:{role}") for name, role in
              (("ann", "reader"), ("bob", "reader"), ("eve", "operator"))}  # fmt: skip
    client, _ = serving(tokens=file)

    def as_(name, method, path, **more):
        headers = {"Authorization": f"Bearer {tokens[name]}"}
        return client.request(method, path, headers=headers, **more)

    assert client.get("/health").status_code == 200
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": tokens["ann"]}):
        refused = client.post("/v1/score", json=SCAN, headers=headers)
        assert code(refused) == (401, "E_ACCESS")
        assert refused.headers["www-authenticate"] == "Bearer"
    answer = as_("ann", "POST", "/v1/score", json=SCAN).json()
    map_ = answer["links"]["map.nii.gz"]
    assert as_("ann", "GET", map_).status_code == 200
    assert code(as_("bob", "GET", map_)) == (404, "E_RESULT")
    assert code(as_("bob", "DELETE", f"/v1/results/{answer['id']}")) == (404, "E_RESULT")
    assert as_("eve", "GET", map_).status_code == 200
    assert code(as_("ann", "GET", "/metrics")) == (403, "E_ACCESS")
    assert code(as_("ann", "POST", "/v1/reload")) == (403, "E_ACCESS")
    assert as_("eve", "POST", "/v1/reload").json()["failure"] is None
    assert "medgan_requests_total" in as_("eve", "GET", "/metrics").text
    assert as_("ann", "DELETE", f"/v1/results/{answer['id']}").status_code == 204
    assert code(as_("ann", "GET", map_)) == (404, "E_RESULT")
    file.write_text("\n".join(file.read_text().splitlines()[1:]))  # Ann leaves
    assert code(as_("ann", "POST", "/v1/score", json=SCAN)) == (401, "E_ACCESS")
    file.chmod(0o644)
    assert code(as_("eve", "GET", "/metrics")) == (401, "E_ACCESS")


def test_only_known_names_of_the_server_and_no_pages_of_others(serving):
    client, _ = serving()
    assert code(client.get("/health", headers={"Host": "evil.example"})) == (400, "E_HOST")
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert code(client.get("/health", headers={"Origin": origin})) == (403, "E_HOST")
    own = {"Origin": "http://127.0.0.1:8080", "Host": "127.0.0.1:8080"}
    assert client.get("/health", headers=own).status_code == 200


def test_a_full_queue_and_a_time_out(serving, monkeypatch, left):
    client, service = serving(queue=1, timeout_s=0.5)
    go = threading.Event()
    running = service.worker.submit(lambda job: go.wait(20))
    try:
        while service.worker.waiting:
            time.sleep(0.01)
        late = client.post("/v1/score", json=SCAN)
        assert code(late) == (504, "E_TIMEOUT")
        assert service.worker.waiting == 0  # it was dropped
        service.worker.submit(lambda job: None)
        full = client.post("/v1/score", json=SCAN)
        assert code(full) == (429, "E_QUEUE")
        assert int(full.headers["retry-after"]) >= 1
        assert left() == []
    finally:
        go.set()
    assert running.future.result(10)


def test_what_runs_too_long_fails_in_silence_and_leaves_nothing(serving, monkeypatch, caplog, left):
    client, service = serving(timeout_s=0.2)
    go = threading.Event()

    def slow(*arguments):
        go.wait(20)
        raise RuntimeError("DOE")

    monkeypatch.setattr("medgan.deployment.serving.tasks.score", slow)
    raw = b"\x1f\x8b"
    monkeypatch.setattr(service.reader, "read", lambda *a: (None, None, ()))
    answer = client.post("/v1/score/upload", files={"scan": raw})
    assert code(answer) == (504, "E_TIMEOUT")
    assert len(left()) == 2  # the upload and what was to become of it
    go.set()
    while not service.worker.idle:
        time.sleep(0.01)
    gc.collect()
    assert left() == []
    assert "DOE" not in caplog.text
    assert "never retrieved" not in caplog.text


def test_a_server_that_stops_refuses_work_and_says_so(serving):
    client, service = serving()
    answer = client.post("/v1/score", json=SCAN).json()
    service.stopping = True
    assert code(client.post("/v1/score", json=SCAN)) == (503, "E_STOPPING")
    assert client.get("/health").status_code == 503
    assert client.get(answer["links"]["map.nii.gz"]).status_code == 200


@pytest.mark.fault(27)
def test_the_log_and_the_metrics_hold_routes_and_pseudonyms_alone(serving, caplog, root):
    client, _ = serving()
    with caplog.at_level(logging.DEBUG, "medgan"):
        answer = client.post("/v1/score?name=DOE", json=SCAN).json()
        client.get(answer["links"]["page.html"] + "?patient=DOE")
        client.get("/DOE")
        client.request("DOE", "/DOE")
        client.post("/v1/score", json={"path": "sub-DOE/none"})
        metrics = client.get("/metrics").text
    text = caplog.text + metrics
    assert "DOE" not in text
    assert answer["id"] not in text
    assert "POST /v1/score 200 " in caplog.text
    assert answer["case"] in caplog.text
    assert 'medgan_requests_total{route="/v1/results/{id_}/{name}",status="200"} 1.0' in metrics
    assert 'medgan_requests_total{route="other",status="404"} 2.0' in metrics
    assert f'medgan_model_info{{version="{answer["model"]["version"]}"}} 1.0' in metrics


def test_results_are_few_and_expire(serving, left):
    client, service = serving(results=2)
    ids = [client.post("/v1/score", json=SCAN | {"page": False}).json()["id"] for _ in range(3)]
    assert [client.get(f"/v1/results/{id_}").status_code for id_ in ids] == [404, 200, 200]
    assert len(left()) == 2
    service.results._seconds = -1.0
    last = client.post("/v1/generate", json={}).json()["id"]
    assert client.get(f"/v1/results/{last}").status_code == 404
    service.results.sweep()
    assert len(left()) == 1


def test_an_unexpected_fault_is_told_without_its_text(serving, monkeypatch, caplog, left):
    client, _ = serving()

    def fault(*arguments):
        raise RuntimeError("DOE")

    monkeypatch.setattr("medgan.deployment.serving.tasks.score", fault)
    answer = client.post("/v1/score", json=SCAN)
    assert code(answer) == (500, "E_INTERNAL")
    assert "DOE" not in answer.text + caplog.text
    assert left() == []


def test_the_requests_of_the_how_to_are_understood(serving):
    client, _ = serving()
    page = (Path(medgan.__file__).parents[1] / "docs" / "how-to" / "serve.md").read_text()
    asked = re.findall(r"curl -s localhost:8080(\S+) -H '(.+?): (.+?)' -d '(.+?)'", page)
    kinds = [client.post(route, content=body, headers={name: value}).status_code
             for route, name, value, body in asked]  # fmt: skip
    assert kinds == [404, 200]  # there is no such scan
    (python,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    compile(python, "serve.md", "exec")


def test_a_model_without_calibration_scores_nothing(serving, monkeypatch):
    client, service = serving()
    service.followed.current().model.calibration = None
    with pytest.raises(ModelError):
        _ = service.followed.current().model.needed_calibration
    assert code(client.post("/v1/score", json=SCAN)) == (409, "E_UNCALIBRATED")
    assert client.get("/v1/model").json()["scores"] is False
