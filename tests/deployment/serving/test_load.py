"""A server in a process of its own, under load and under attack."""

import gzip
import io
import itertools
import json
import logging
import os
import runpy
import signal
import socket
import stat
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import medgan
from medgan.core.volume import Volume
from medgan.tracking.client import connect, sqlite_uri
from tests.deployment.serving.conftest import AFFINE
from tests.kit.dicom import make_series, save
from tests.kit.models import make_model

log = logging.getLogger(__name__)
pytestmark = pytest.mark.slow
SCRIPT = runpy.run_path(
    str(Path(medgan.__file__).parents[1] / "docs" / "scripts" / "serve_load.py")
)
form = SCRIPT["form"]
MALFORMED = 1000
SCAN = b'{"path": "sub-DOE/scan.nii.gz"}'


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts `medgan serve`; its temporary files go to the test's folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return SCRIPT["Server"]


@pytest.fixture
def left(tmp_path):
    """What the server has in its folder of temporary files, but its lock."""
    return lambda: [p for p in (tmp_path / "tmp").rglob("medgan-serve-*/**/*") if p.name != ".lock"]


def zipped(files, method=zipfile.ZIP_DEFLATED, change=lambda info: None) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            change(info)
            archive.writestr(info, data)
    return packed.getvalue()


def as_link(info):
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def encrypted(archive: bytes) -> bytes:
    """The flag of encryption in both headers."""
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        at = archive.index(start) + (6 if start[2] == 3 else 8)
        archive = archive[:at] + b"\x01" + archive[at + 1 :]
    return archive


def header(shape, kind=16, bits=32) -> bytes:
    """A NIfTI header that announces a shape."""
    found = bytearray(352)
    found[:4] = (348).to_bytes(4, "little")
    dims = np.array([len(shape), *shape, *[1] * (7 - len(shape))], "<i2")
    found[40:56] = dims.tobytes()
    found[70:74] = np.array([kind, bits], "<i2").tobytes()
    found[76:108] = np.ones(8, "<f4").tobytes()
    found[108:112] = np.array([352], "<f4").tobytes()
    found[344:348] = b"n+1\0"
    return bytes(found)


@pytest.fixture(scope="module")
def attacks(scans, tmp_path_factory):
    """Bodies of uploads and their content types, made from a number."""
    folder = tmp_path_factory.mktemp("attacks")
    Volume(scans[0], AFFINE).save(folder / "scan.nii.gz")
    packed = (folder / "scan.nii.gz").read_bytes()
    plain = gzip.decompress(packed)
    save(make_series("CT", seed=1), folder / "ct")
    slices = [(path.name, path.read_bytes()) for path in sorted((folder / "ct").iterdir())]
    bomb = gzip.compress(header((1000, 1000, 260)) + bytes(2**24), 1)
    small = header((8, 8, 8))

    def cut(data, rng):
        return data[: rng.integers(1, len(data))]

    def flipped(data, rng):
        found = bytearray(data)
        for at in rng.integers(0, len(found), 8):
            found[at] = rng.integers(256)
        return bytes(found)

    files = {
        "random bytes": lambda rng: rng.bytes(int(rng.integers(0, 5000))),
        "random gzip": lambda rng: gzip.compress(rng.bytes(2000), 1),
        "random zip": lambda rng: b"PK\x03\x04" + rng.bytes(500),
        "truncated gzip": lambda rng: cut(packed, rng),
        "flipped gzip": lambda rng: flipped(packed, rng),
        "flipped header": lambda rng: flipped(plain[:352], rng) + plain[352:],
        "truncated NIfTI": lambda rng: cut(plain, rng),
        "huge header": lambda rng: header((32767, 32767, 32767)) + rng.bytes(64),
        "negative header": lambda rng: header((-5, 8, 8)) + rng.bytes(64),
        "many axes": lambda rng: header((8, 8, 8, 8, 8, 8, 8)) + rng.bytes(64),
        "gzip bomb": lambda rng: bomb,
        "gzip bomb behind a small header": lambda rng: gzip.compress(small + bytes(2**25), 1),
        "gzip of gzip": lambda rng: gzip.compress(packed),
        "zip bomb": lambda rng: zipped([(f"{n}.dcm", bytes(2**25)) for n in range(2)]),
        "zip slip": lambda rng: zipped([("../../evil.dcm", slices[0][1])]),
        "zip slip, absolute": lambda rng: zipped([("/tmp/evil.dcm", slices[0][1])]),
        "zip slip, Windows": lambda rng: zipped([("..\\evil.dcm", slices[0][1])]),
        "zip of a link": lambda rng: zipped([("a.dcm", b"/etc/passwd")], change=as_link),
        "zip of zip": lambda rng: zipped([("a.zip", zipped(slices[:1]))]),
        "zip of text": lambda rng: zipped([("a.txt", b"hello")]),
        "zip of lzma": lambda rng: zipped(slices[:2], zipfile.ZIP_LZMA),
        "zip of nothing": lambda rng: zipped([]),
        "zip of many": lambda rng: zipped([(f"{n}", b"") for n in range(10_001)], 0),
        "encrypted zip": lambda rng: encrypted(zipped(slices[:2])),
        "truncated zip": lambda rng: cut(zipped(slices), rng),
        "flipped zip": lambda rng: flipped(zipped(slices[:3]), rng),
        "zip without a slice": lambda rng: zipped(slices[:2] + slices[3:]),
        "zip of flipped slices": lambda rng: zipped([(n, flipped(d, rng)) for n, d in slices]),
        "zip of half slices": lambda rng: zipped([(n, cut(d, rng)) for n, d in slices]),
        "text": lambda rng: b"image,label\n/etc/passwd,\n",
    }

    def attack(number):
        rng = np.random.default_rng(number)
        names = list(files)
        name = names[number % (len(names) + 5)] if number % (len(names) + 5) < len(names) else ""
        if name:
            return name, *form({"scan": files[name](rng)})
        which = number % 5
        body, kind = form({"scan": packed})
        if which == 0:
            return "other field", *form({"other": packed})
        if which == 1:
            return "no file", *form({}, {"scan": "text"})
        if which == 2:
            return "cut form", cut(body, rng)[:-60], kind
        if which == 3:
            return "other type", body, "text/plain"
        return "bad fields", *form({"scan": packed}, {"covariates": "{", "x": "y"})

    return attack


@pytest.mark.fault("zip bomb")
def test_a_thousand_malformed_uploads_leave_nothing_and_the_server_alive(
    start, model_folder, left, attacks
):
    statuses = {}
    with start(str(model_folder), None, "--set", "serve.unpacked_mb=16") as server:
        before = server.rss_mb()
        for number in range(MALFORMED):
            name, body, kind = attacks(number)
            status, answer = server.post("/v1/score/upload", body, kind)
            statuses.setdefault(name, set()).add(status)
            assert status < 500, (name, answer)
            assert status == 200 or set(json.loads(answer)["error"]) == {
                "code", "where", "what", "remedy",
            }  # fmt: skip
        grown = server.rss_mb() - before
        # A flipped byte may be one of a voxel: then it is a scan, and is scored.
        results = [p for p in left() if p.is_file()]
        assert {p.name for p in results} <= {"map.nii.gz", "page.html"}
        status, _ = server.post("/v1/score/upload", *form({"scan": b""}))
        assert (status, server.process.poll()) == (422, None)
    scored = {name for name, found in statuses.items() if 200 in found}
    assert all("flipped" in name or "gzip" in name for name in scored), scored
    assert server.status == 0
    assert left() == []
    log.info(f"{MALFORMED} malformed uploads, {len(statuses)} kinds: memory grew by {grown:.0f} MB")
    assert "Traceback" not in "".join(server.log)
    assert grown < 400


def test_clients_that_go_away_leave_nothing(start, model_folder, root, left):
    scan = (root / "sub-DOE" / "scan.nii.gz").read_bytes()
    body, kind = form({"scan": scan})
    with start(str(model_folder), None) as server:
        host, port = server.address.removeprefix("http://").split(":")
        for number in range(40):
            with socket.create_connection((host, int(port))) as client:
                head = f"POST /v1/score/upload HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
                head += f"Content-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body[: len(body) * number // 40])
        deadline = time.monotonic() + 20
        while left() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left() == []
        assert server.process.poll() is None


@pytest.mark.fault(48)
def test_memory_stays_flat_over_a_thousand_requests(start, model_folder, root, measured):
    with start(str(model_folder), root) as server:
        marks = []
        for number in range(1000):
            assert server.post("/v1/score", SCAN)[0] == 200
            if number in (199, 999):
                marks.append(server.rss_mb())
    assert marks[1] - marks[0] < 30
    measured(f"serving: {marks[0]:.0f} MB after 200 requests, {marks[1]:.0f} MB after 1,000")


def test_an_alias_that_moves_under_load_drops_no_request(
    start, model_folder, root, tmp_path, scans
):
    uri = sqlite_uri(tmp_path / "mlflow.db")
    client = connect(uri, write=True)
    client.create_registered_model("brain")
    for _ in range(2):
        client.create_model_version("brain", str(model_folder))
    damaged = tmp_path / "damaged"
    make_model().save(damaged)
    (damaged / "model.safetensors").write_bytes(b"damaged")
    client.create_model_version("brain", str(damaged))
    client.set_registered_model_alias("brain", "challenger", "1")
    moves = [*["2", "1"] * 4, "3", "2"]
    settings = ("--set", f"tracking.uri={uri}", "--set", "serve.follow_s=0.2")
    seen, over = [], threading.Event()

    def ask(number):
        while not over.is_set():
            status, answer = server.post("/v1/score", SCAN)
            seen.append((status, json.loads(answer).get("model", {}).get("version")))

    with start("models:/brain@challenger", root, *settings) as server, ThreadPoolExecutor() as pool:
        for number in range(4):
            pool.submit(ask, number)
        try:
            for version in moves:
                time.sleep(2)
                client.set_registered_model_alias("brain", "challenger", version)
            time.sleep(4)
        finally:
            over.set()
    assert {status for status, _ in seen} == {200}
    versions = [version for _, version in seen]
    changes = sum(a != b for a, b in itertools.pairwise(versions))
    log.info(f"{len(seen)} requests, {len(moves)} moves: no failure")
    assert set(versions) == {"brain/1", "brain/2"}
    assert changes >= len(moves) - 3
    assert "brain/3 could not be loaded" in "".join(server.log)


def test_sigterm_finishes_what_was_taken_on_and_ends_with_0(start, model_folder, root, left):
    with start(str(model_folder), root) as server, ThreadPoolExecutor(8) as pool:
        under_way = [pool.submit(server.post, "/v1/score", SCAN) for _ in range(8)]
        while b"medgan_queue_length 7.0" not in server.get("/metrics"):
            assert not any(future.done() for future in under_way)
        server.process.send_signal(signal.SIGTERM)
        assert [f.result()[0] for f in under_way] == [200] * 8
        assert server.process.wait(30) == 0
    assert list(left()) == []


def test_what_a_killed_server_left_goes_at_the_next_start(start, model_folder, root, tmp_path):
    with start(str(model_folder), root) as server:
        assert server.post("/v1/score", SCAN)[0] == 200
        server.process.kill()
        server.process.wait()
    (before,) = (tmp_path / "tmp").glob("medgan-serve-*")
    assert any(path.name == "map.nii.gz" for path in before.rglob("*"))
    with start(str(model_folder), root):
        assert not before.exists()
        (now,) = (tmp_path / "tmp").glob("medgan-serve-*")
        assert stat.S_IMODE(os.stat(now).st_mode) == 0o700
