"""What goes wrong around a node: its peers, its disk, the clock. Nothing may be lost."""

import errno
import logging
import os
import socket
import threading
import time
from collections import deque
from types import SimpleNamespace

import pytest
import requests
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE

from medgan.core.config import PacsConfig, ScoreConfig
from medgan.core.errors import ConfigError, ModelError
from medgan.data.pseudonyms import Pseudonyms
from medgan.deployment.pacs.doors import PeerDown
from medgan.deployment.pacs.fetching import fetch_new
from medgan.deployment.pacs.listener import CANNOT_UNDERSTAND, Listener
from medgan.deployment.pacs.node import PAGE, Node, NodeSettings, run_node
from medgan.deployment.pacs.peers import Peer
from medgan.deployment.pacs.records import SCORED, Outgoing, Record
from medgan.deployment.pacs.sender import Sender
from medgan.deployment.pacs.spool import Spool
from medgan.deployment.pacs.store import StoreDoor, _stored
from medgan.deployment.pacs.web import Denied, Instance, WebDoor, check_answer
from tests.kit.pacs import Archive, as_file, put, study

PSEUDONYMS = Pseudonyms(b"s" * 32)
PEER = Peer("ARCHIVE", "127.0.0.1", 1)


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", PSEUDONYMS)


@pytest.fixture
def waiting(spool):
    """A spool with a study whose four objects wait, and its pseudonym."""
    name = put(spool, study()[:1])
    objects = [Outgoing(f"results/{kind}.dcm", kind) for kind in ("map", "regions", "summary")]
    spool.path(name, "results").mkdir()
    for one, ds in zip(objects, study(1), strict=False):
        spool.path(name, one.file).write_bytes(as_file(ds))
    with spool.changing(name) as record:
        record.stage, record.outgoing = SCORED, objects
    return spool, name


@pytest.fixture
def full(monkeypatch):
    """Fills the disk for as long as the context lasts."""

    def fsync(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    def context():
        patch = monkeypatch.context()
        patch.__enter__().setattr(os, "fsync", fsync)
        return patch

    return context


def states(spool):
    return [(one.state, one.tries) for one in spool.records()[0].outgoing]


def test_a_data_set_that_calls_itself_deflated_is_not_unpacked(spool):
    """Group 2 in a data set counts as the file's, and kilobytes may unpack to any amount."""
    (ds,) = study()[:1]
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = as_file(ds)
    turned = deque()
    listener = Listener.__new__(Listener)
    listener._spool, listener._turned = spool, turned
    event = SimpleNamespace(
        assoc=SimpleNamespace(requestor=SimpleNamespace(ae_title="PACS")),
        encoded_dataset=lambda: data,
    )
    assert listener._store(event) == CANNOT_UNDERSTAND
    assert spool.records() == []
    assert turned


def test_a_peer_whose_name_is_not_known_for_a_while_gets_its_results_later(waiting, monkeypatch):
    spool, name = waiting

    def unknown(*_, **__):
        raise socket.gaierror("no such host")

    monkeypatch.setattr(AE, "associate", unknown)
    sender = Sender(spool, StoreDoor(PEER, "MEDGAN"), threading.Event())
    assert "no address" in sender._send(name)
    assert states(spool) == [("waiting", 0)] * 3


def test_a_peer_that_breaks_off_between_two_objects_has_refused_none(tmp_path):
    def broken_off(path):
        raise RuntimeError("no association")

    association = SimpleNamespace(is_established=False, send_c_store=broken_off)
    with pytest.raises(PeerDown):
        _stored(association, tmp_path)
    association.is_established = True
    assert "RuntimeError" in _stored(association, tmp_path)


def test_an_object_whose_file_is_gone_does_not_take_the_others_along(waiting):
    spool, name = waiting
    spool.path(name, "results/regions.dcm").unlink()
    with Archive().listening() as archive:
        door = StoreDoor(Peer("ARCHIVE", "127.0.0.1", archive.port), "MEDGAN")
        assert Sender(spool, door, threading.Event())._send(name) == ""
    assert states(spool) == [("sent", 0), ("waiting", 1), ("sent", 0)]


@pytest.mark.parametrize(
    ("status", "kind", "more"),
    [(200, "text/html", {}), (200, "Text/HTML; charset=utf-8", {}), (302, "", {"Location": "/x"}),
     (308, "application/dicom+json", {"Location": "http://elsewhere/"})],
)  # fmt: skip
def test_a_login_page_or_another_address_is_no_archive(status, kind, more):
    answer = requests.Response()
    answer.status_code, answer.headers["Content-Type"] = status, kind
    answer.headers.update(more)
    with pytest.raises(PeerDown):
        check_answer(answer)


def test_every_answer_over_dicomweb_is_looked_at():
    answer = requests.Response()
    answer.status_code = 200
    answer.headers["Content-Type"] = "application/dicom+json;charset=UTF-8"
    check_answer(answer)
    assert answer.headers["Content-Type"] == "application/dicom+json"
    assert check_answer in WebDoor("http://archive")._client._session.hooks["response"]


def test_a_service_that_is_not_there_yet_keeps_the_results_waiting(waiting):
    spool, name = waiting
    door = WebDoor("http://archive/dicom-web")

    def not_found(datasets):
        answer = requests.Response()
        answer.status_code = 404
        raise requests.HTTPError(response=answer)

    door._client = SimpleNamespace(store_instances=not_found)
    assert "404" in Sender(spool, door, threading.Event())._send(name)
    assert states(spool) == [("waiting", 0)] * 3


def test_a_study_that_the_server_does_not_give_does_not_keep_the_others_back(spool):
    asked = []

    class Web:
        def studies(self, modality, days):
            return dict.fromkeys(("1.1", "1.2", "1.3"), 0)

        def instances(self, uid, told):
            if uid == "1.1":
                raise Denied("HTTP status 404", 404)
            return [Instance(uid, f"{uid}.1", f"{uid}.1.{n}") for n in range(2)]

        def fetch(self, one):
            asked.append(one.uid)
            if one.uid == "1.2.1.1":
                raise Denied("HTTP status 410", 410)
            return b"DICOM"

    for _ in range(2):
        with pytest.raises(Denied, match="410"):
            fetch_new(spool, Web(), "MR", 1, threading.Event())
    assert asked == ["1.2.1.0", "1.2.1.1", "1.3.1.0", "1.3.1.1", "1.2.1.1"]
    assert sorted(record.instances for record in spool.records()) == [1, 2]


class Half:
    """A server that gives so many of the 16 files of a study, and then breaks off."""

    def __init__(self, given, fault):
        self.given, self.fault, self.listed = given, fault, {"1.2": 16}

    def studies(self, modality, days):
        return self.listed

    def instances(self, uid, told):
        return [Instance(uid, f"{uid}.1", f"{uid}.1.{n}") for n in range(16)]

    def fetch(self, one):
        if int(one.uid.rpartition(".")[2]) >= self.given:
            raise self.fault
        return b"DICOM"


@pytest.mark.fault("half study")
@pytest.mark.parametrize("fault", [PeerDown("cannot be reached"), Denied("HTTP status 410", 410)])
def test_half_a_study_is_never_complete_at_whichever_slice_the_server_breaks_off(
    fault, tmp_path, measured
):
    never = threading.Event()
    for given in range(16):
        spool, web = Spool(tmp_path / str(given), PSEUDONYMS), Half(given, fault)
        for _ in range(2):
            with pytest.raises(type(fault)):
                fetch_new(spool, web, "MR", 1, never)
            assert spool.complete(-1) == []
        spool = Spool(tmp_path / str(given), PSEUDONYMS)  # killed, and begun anew
        assert spool.complete(-1) == []
        assert spool.next_to_score(lambda study: False) is None
        (record,) = spool.records()
        assert (record.state, record.instances) == ("receiving", given)
        web.given = 16
        fetch_new(spool, web, "MR", 1, never)
        assert spool.complete(-1) == [record.study]
        assert spool.records()[0].instances == 16
    measured(f"a fetch broken off at each of {given + 1} slices ({type(fault).__name__}): 0 scored")


@pytest.mark.fault("half study")
def test_half_a_study_that_is_no_longer_listed_is_refused_and_taken_again_when_it_is(spool):
    web, never = Half(9, Denied("HTTP status 410", 410)), threading.Event()
    with pytest.raises(Denied):
        fetch_new(spool, web, "MR", 1, never)
    web.listed = {}
    fetch_new(spool, web, "MR", 1, never)
    (record,) = spool.records()
    assert (record.state, record.settled) == ("refused", True)
    assert record.remarks == ["not scored: the server did not give all its files"]
    assert spool.complete(-1) == []
    web.listed, web.given = {"1.2": 16}, 16
    fetch_new(spool, web, "MR", 1, never)
    assert spool.complete(-1) == [record.study]


@pytest.mark.fault("half study")
@pytest.mark.parametrize(("told", "fits"), [("16", True), ("17", False), (None, True)])
def test_a_server_that_lists_fewer_files_than_it_tells_is_not_believed(told, fits):
    slices = study()

    class Client:
        def search_for_studies(self, **asked):
            answer = {"0020000D": {"Value": ["1.2"]}}
            return [answer if told is None else answer | {"00201208": {"Value": [told]}}]

        def search_for_instances(self, uid, **asked):
            return [
                {"00080016": {"Value": [ds.SOPClassUID]}, "00080018": {"Value": [f"1.2.{n}"]}}
                for n, ds in enumerate(slices)
            ]

    door = WebDoor("http://archive/dicom-web")
    door._client = Client()
    ((uid, number),) = door.studies("MR", 1).items()
    assert number == int(told or 0)
    if fits:
        assert len(door.instances(uid, number)) == 16
    else:
        with pytest.raises(Denied, match="a study of 17 objects of which 16 are listed"):
            door.instances(uid, number)


def test_an_answer_that_a_full_disk_does_not_take_is_as_if_it_had_not_come(waiting, full):
    spool, name = waiting
    door = SimpleNamespace(send=lambda paths, note: [note(path, "") for path in paths])
    sender = Sender(spool, door, threading.Event())
    patch = full()
    assert "no space left" in sender._send(name)
    patch.__exit__(None, None, None)
    assert states(spool) == [("waiting", 0)] * 3
    assert sender._send(name) == ""
    assert [one.state for one in Record.read(spool.path(name)).outgoing] == ["sent"] * 3


def test_a_fault_of_a_door_neither_ends_the_sender_nor_gives_up_results(waiting):
    spool, name = waiting

    def fault(paths, note):
        raise ValueError("anything")

    sender = Sender(spool, SimpleNamespace(send=fault), threading.Event())
    for _ in range(6):
        assert sender._send(name) == ""
    assert states(spool) == [("waiting", 0)] * 3
    assert sender._resting(name)


def test_a_full_disk_is_told_once(tmp_path, full, caplog):
    settings = NodeSettings(
        "MEDGAN", "127.0.0.1", 0, [], PEER, "", 0, PacsConfig(quiet_seconds=0.01), ScoreConfig()
    )
    node = Node(tmp_path / "spool", None, settings, threading.Event())
    put(node._spool, study()[:1])
    time.sleep(0.02)
    with caplog.at_level(logging.WARNING):
        patch = full()
        for _ in range(3):
            with node._said("complete studies"):
                node._spool.complete(0.01)
        patch.__exit__(None, None, None)
        with node._said("complete studies"):
            assert node._spool.complete(0.01)
    assert [record.getMessage().count("no space left") for record in caplog.records] == [1]


def test_the_page_of_a_node_tells_that_its_model_is_not_the_one_of_the_alias(tmp_path):
    settings = NodeSettings("MEDGAN", "127.0.0.1", 0, [], PEER, "", 0, PacsConfig(), ScoreConfig())
    failure = ModelError("E_GATE", "models:/brain@champion", "was made so without the gate", "x")
    model = SimpleNamespace(
        state=SimpleNamespace(failure=failure), current=lambda: SimpleNamespace(version="brain/3")
    )
    Node(tmp_path / "spool", model, settings, threading.Event())._write_page()
    text = (tmp_path / "spool" / PAGE).read_text()
    assert "without the gate" in text
    assert "Studies are scored by brain/3" in text


@pytest.mark.fault(42)
def test_a_clock_that_is_set_back_neither_stops_scoring_nor_keeps_files(spool, monkeypatch):
    clock = [1e9]
    monkeypatch.setattr("time.time", lambda: clock[0])
    name = put(spool, study()[:1])
    spool.complete(0)
    clock[0] -= 86400
    assert spool.next_to_score(lambda study: False) == name
    clock[0] += 10 * 365 * 86400
    with spool.changing(name) as record:
        record.stage = SCORED
    clock[0] -= 10 * 365 * 86400
    spool.delete_settled(3600)
    assert list(spool.folder.rglob("*.dcm"))
    clock[0] += 3601
    spool.delete_settled(3600)
    assert not list(spool.folder.rglob("*.dcm"))


def test_a_folder_of_others_is_not_closed_to_them(tmp_path):
    (tmp_path / "theirs.txt").write_text("x")
    tmp_path.chmod(0o755)
    settings = NodeSettings("MEDGAN", "127.0.0.1", 0, [], PEER, "", 0, PacsConfig(), ScoreConfig())
    with pytest.raises(ConfigError, match="E_OUT"):
        run_node(tmp_path, "nowhere", "", settings, threading.Event())
    assert tmp_path.stat().st_mode & 0o777 == 0o755
