"""Parts of the DICOM node: who may send, when a study is complete, what is sent once."""

import errno
import os
import shutil
import stat
import threading
from collections import deque

import highdicom
import numpy as np
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless
from pynetdicom import AE

from medgan.core.config import PacsConfig, ScoreConfig
from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.core.files import locked
from medgan.data.pseudonyms import Pseudonyms
from medgan.deployment.pacs import scoring
from medgan.deployment.pacs.fetching import fetch_new
from medgan.deployment.pacs.listener import Listener
from medgan.deployment.pacs.node import NodeSettings, run_node
from medgan.deployment.pacs.page import write_page
from medgan.deployment.pacs.peers import Peer, checked_title
from medgan.deployment.pacs.records import COMPLETE, RECEIVING, SCORED, Outgoing
from medgan.deployment.pacs.scoring import StudyScorer
from medgan.deployment.pacs.sender import Sender
from medgan.deployment.pacs.spool import Spool
from medgan.deployment.pacs.store import StoreDoor
from medgan.deployment.pacs.web import WebDoor
from tests.kit.pacs import NAMES, Archive, StubModel, put, send, study

PSEUDONYMS = Pseudonyms(b"s" * 32)
SETTINGS = NodeSettings(
    "MEDGAN", "127.0.0.1", 11112, ["PACS"], None, "", 0, PacsConfig(), ScoreConfig()
)


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", PSEUDONYMS)


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    """One for all tests: to close one takes half a second."""
    spool = Spool(tmp_path_factory.mktemp("spool"), PSEUDONYMS)
    listener = Listener(spool, "MEDGAN", ["PACS"], ("127.0.0.1", 0), deque())
    yield listener
    listener.close()


@pytest.fixture
def listening(listener, spool):
    listener._spool, listener._turned = spool, deque()
    return listener.port, listener._turned


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with a scored study."""
    spool = Spool(tmp_path_factory.mktemp("scored") / "spool", PSEUDONYMS)
    score(spool, put(spool, study()))
    return spool.folder


@pytest.fixture
def scored(template, tmp_path):
    """A spool with a scored study, and its pseudonym."""
    shutil.copytree(template, tmp_path / "spool")
    spool = Spool(tmp_path / "spool", PSEUDONYMS)
    return spool, spool.records()[0].study


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing takes half a second."""
    monkeypatch.setattr(scoring, "summarise", lambda *_: np.zeros((48, 64, 3), np.uint8))


def score(spool, name, model=None):
    """Scores a study and notes the result, as the node does."""
    scorer = StudyScorer(model or StubModel(), "brain/4", ScoreConfig(), PSEUDONYMS)
    outcome = scorer.score(spool.path(name), spool.records()[0].series)
    with spool.changing(name) as record:
        record.series.update(outcome.series)
        record.outgoing += outcome.outgoing
        record.remarks += outcome.remarks
        record.subject, record.stage = outcome.subject, SCORED
    return outcome


def files(spool):
    return sorted(path.name for path in spool.folder.rglob("*") if path.is_file())


def test_only_a_known_peer_that_calls_the_node_by_its_name_is_heard(spool, listening):
    port, turned = listening
    slices = study()[:2]
    assert send(slices, port) == [0, 0]
    assert send(slices, port, calling="STRANGER") == []
    assert send(slices, port, called="OTHER") == []
    assert [(one.peer, one.what.partition(":")[0]) for one in turned] == [
        ("STRANGER", "an association"), ("PACS", "an association"),
    ]  # fmt: skip
    assert "not allowed" in turned[0].what
    assert "OTHER" in turned[1].what
    ae = AE(ae_title="PACS")
    ae.add_requested_context("1.2.840.10008.1.1")
    found = ae.associate("127.0.0.1", port, ae_title="MEDGAN")
    assert found.send_c_echo().Status == 0
    found.release()
    (record,) = spool.records()
    assert record.instances == 2


def test_compressed_slices_are_accepted_and_what_cannot_be_read_is_said(spool, listening):
    port, turned = listening
    (ds,) = study()[:1]
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    assert send([ds], port) == [0]
    (path,) = spool.folder.rglob("*.dcm")
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGLSLossless
    (other,) = study(1)[:1]
    other.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert send([other], port) == []
    assert "E_SYNTAX" in turned[0].what
    assert "MR Image Storage" in turned[0].what


def test_a_file_is_on_the_disk_before_success_is_answered_and_only_the_owner_reads_it(
    spool, listening, monkeypatch
):
    port, _ = listening
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), fsync(handle))[1])
    assert send(study()[:1], port) == [0]
    assert len(synced) >= 2  # the file, and the folder that names it
    for path in (spool.folder, *spool.folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_full_disk_is_out_of_resources_and_leaves_nothing_of_the_file(
    spool, listening, monkeypatch
):
    port, turned = listening
    slices, other = study()[:2], study(1)[:1]
    assert send(slices[:1], port) == [0]
    before = files(spool)
    with monkeypatch.context() as patch:

        def full(handle):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        assert send(slices[1:], port) == [0xA700]
        assert send(other, port) == [0xA700]
    assert files(spool) == before
    assert "no space left" in turned[0].what
    assert [record.instances for record in spool.records()] == [1]
    assert spool.complete(0) == [spool.records()[0].study]
    assert send(slices[1:], port) == [0]


def test_results_that_come_back_are_not_scored(scored, listening):
    port, _ = listening
    spool, name = scored
    before = files(spool)
    results = [pydicom.dcmread(path) for path in spool.waiting(name)]
    assert set(send(results, port)) == {0}
    assert files(spool) == before
    assert spool.records()[0].stage == SCORED


@pytest.mark.fault("half study")
def test_a_study_is_complete_after_quiet_time_and_a_restart_waits_anew(spool, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    slices = study()
    name = put(spool, slices[:3])
    clock[0] = 109
    put(spool, slices[3:])
    clock[0] = 118
    assert spool.complete(10) == []
    clock[0] = 119
    again = Spool(spool.folder, PSEUDONYMS)
    assert again.complete(10) == []
    assert (again.records()[0].stage, again.records()[0].instances) == (RECEIVING, 16)
    clock[0] = 129
    assert again.complete(10) == [name]
    assert Spool(spool.folder, PSEUDONYMS).next_to_score(lambda study: False) == name
    put(again, slices)  # the same once more
    assert again.records()[0].stage == COMPLETE


def test_a_study_killed_before_its_record_was_written_is_found(spool):
    name = put(spool, study()[:2])
    spool.path(name, "record.json").unlink()
    (record,) = Spool(spool.folder, PSEUDONYMS).records()
    assert (record.study, record.stage, record.instances) == (name, RECEIVING, 2)


def test_a_study_that_was_under_way_at_each_kill_comes_last_and_waits_but_is_not_lost(
    spool, monkeypatch
):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.time", lambda: clock[0])
    names = [put(spool, study()[:1])]
    clock[0] = 1
    names.append(put(spool, study(1)[:1]))
    clock[0] = 100
    spool.complete(1)
    begun = []
    for _ in range(4):
        name = spool.next_to_score(lambda study: False)
        begun.append(name)
        with spool.changing(name) as record:
            record.attempts += 1  # and it is killed
        spool = Spool(spool.folder, PSEUDONYMS)
    assert begun == names * 2
    for name in names:
        with spool.changing(name) as record:
            record.attempts = 3 if name == names[0] else 11
    assert spool.next_to_score(lambda study: False) is None
    clock[0] = 111
    assert spool.next_to_score(lambda study: study == names[1]) == names[0]
    assert spool.next_to_score(lambda study: study == names[0]) is None


class Killed(BaseException):
    """In place of SIGKILL."""


def test_what_a_kill_left_unnoted_is_sent_again_under_the_same_uid_and_the_rest_once(scored):
    spool, name = scored
    got = []

    class Door:
        kill = True

        def send(self, paths, note):
            for path in paths:
                got.append(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
                if self.kill and len(got) == 2:
                    raise Killed
                note(path, "")

    door = Door()
    with pytest.raises(Killed):
        Sender(spool, door, threading.Event())._send(name)
    door.kill = False
    again = Spool(spool.folder, PSEUDONYMS)
    assert again.next_to_send(lambda study: False) == name
    assert Sender(again, door, threading.Event())._send(name) == ""
    assert len(got) == 5
    assert got[1] == got[2]
    assert len(set(got)) == 4
    assert again.records()[0].state == "sent"
    assert again.next_to_send(lambda study: False) is None


@pytest.mark.fault("half study")
def test_a_study_scored_twice_has_the_same_uids_and_one_with_more_slices_others(spool, no_picture):
    slices = study()
    name = put(spool, slices[:12])
    score(spool, name)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in spool.waiting(name)]
    assert score(spool, name).outgoing == []  # by the same model it has its result
    with spool.changing(name) as record:
        record.series, record.outgoing = {}, []  # as if killed before it was noted
    score(spool, name)
    assert [pydicom.dcmread(path).SOPInstanceUID for path in spool.waiting(name)] == uids
    put(spool, slices)
    assert spool.records()[0].stage == RECEIVING
    score(spool, name)
    new = [pydicom.dcmread(path) for path in spool.waiting(name)[4:]]
    assert len(new) == 4
    assert not {ds.SOPInstanceUID for ds in new} & set(uids)
    (report,) = [ds for ds in new if ds.Modality == "SR"]
    assert "of 16 slices; an earlier one was of 12 slices" in report.to_json()


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dead_peer_keeps_the_queue_and_a_refused_class_does_not_stop_the_rest(scored):
    spool, name = scored
    archive, stop = Archive(), threading.Event()
    with archive.listening():
        port = archive.port
    door = StoreDoor(Peer("ARCHIVE", "127.0.0.1", port), "MEDGAN")
    sender = Sender(spool, door, stop)
    assert sender._send(name) == "cannot be reached"
    assert len(spool.waiting(name)) == 4
    known = ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7"]
    with archive.listening(port, known):
        archive.status = 0xA700
        assert "out of resources" in sender._send(name)
        archive.status = 0
        assert sender._send(name) == ""
    (record,) = spool.records()
    assert {one.kind: one.state for one in record.outgoing} == {
        "map": "refused", "regions": "sent", "summary": "sent", "report": "refused",
    }  # fmt: skip
    assert len([one for one in record.remarks if "E_PEER" in one]) == 2
    assert record.state == "sent"


def test_dicomweb_tells_a_server_that_is_down_from_an_object_that_is_refused(scored):
    spool, name = scored
    door = WebDoor("http://user:secret@archive:8080/dicom-web")
    assert str(door) == "http://archive:8080"
    answers = [requests.ConnectionError("no"), answer(503), answer(409), failed(0xC122), Dataset()]

    class Client:
        def store_instances(self, datasets):
            found = answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

    door._client = Client()
    sender = Sender(spool, door, threading.Event())
    assert sender._send(name) == "cannot be reached"
    assert sender._send(name) == "answers with HTTP status 503"
    answers.append(Dataset())
    assert sender._send(name) == ""
    assert [(one.state, one.tries) for one in spool.records()[0].outgoing] == [
        ("waiting", 1), ("waiting", 1), ("sent", 0), ("sent", 0),
    ]  # fmt: skip


def answer(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


def failed(reason):
    item, found = Dataset(), Dataset()
    item.FailureReason = reason
    found.FailedSOPSequence = [item]
    return found


def test_new_studies_are_fetched_once_from_dicomweb(spool):
    slices = study()

    class Client:
        fetched = 0

        def search_for_studies(self, search_filters, limit, offset):
            assert search_filters["ModalitiesInStudy"] == "MR"
            return [{"0020000D": {"Value": [slices[0].StudyInstanceUID]}}]

        def search_for_instances(self, study, fields, limit, offset, search_filters):
            names = {"00080016": "SOPClassUID", "00080018": "SOPInstanceUID",
                     "0020000E": "SeriesInstanceUID"}  # fmt: skip
            return [
                {tag: {"Value": [ds[name].value]} for tag, name in names.items()}
                for ds in slices[offset : offset + 10]  # of which there are 16
            ]

        def retrieve_instance(self, study, series, instance, media_types):
            self.fetched += 1
            return next(ds for ds in slices if instance == ds.SOPInstanceUID)

    door, client = WebDoor("http://archive/dicom-web"), Client()
    door._client = client
    for _ in range(2):
        fetch_new(spool, door, "MR", 1, threading.Event())
    assert client.fetched == 16
    assert spool.records()[0].instances == 16


def test_an_unexpected_status_is_tried_a_few_times_only(spool):
    name = put(spool, study()[:1])
    with spool.changing(name) as record:
        record.stage, record.outgoing = SCORED, [Outgoing("results/x/map.dcm", "map")]

    class Door:
        def send(self, paths, note):
            for path in paths:
                note(path, "status 0xC000")

    sender = Sender(spool, Door(), threading.Event())
    sender._send(name)
    assert sender._resting(name)
    for _ in range(4):
        assert spool.records()[0].waiting
        sender._send(name)
    assert spool.records()[0].state == "refused"


def test_bad_studies_are_refused_with_a_reason_and_no_name(spool):
    damaged = study()
    damaged[3].PixelData = damaged[3].PixelData[:100]
    derived = study(1)
    for ds in derived:
        ds.ImageType = ["DERIVED", "PRIMARY", "MPR"]
    for slices, code in ((damaged, "E_TRUNCATED"), (derived, "E_NO_SERIES")):
        name = put(spool, slices)
        scorer = StudyScorer(StubModel(), "brain/4", ScoreConfig(), PSEUDONYMS)
        outcome = scorer.score(spool.path(name), {})
        assert outcome.outgoing == []
        assert code in outcome.remarks[0]
        assert not [one for one in NAMES if one in " ".join(outcome.remarks)]


def test_a_series_that_is_not_comparable_is_told_and_sent_only_without_a_better_one(
    spool, no_picture
):
    name = put(spool, study())
    outcome = score(spool, name, StubModel(comparable=False))
    assert [one.kind for one in outcome.outgoing] == ["summary", "report"]
    (found,) = outcome.series.values()
    assert "Not comparable" in found.text


def test_the_report_reads_back(scored):
    slices = study()
    spool, name = scored
    found = {ds.Modality: ds for ds in map(pydicom.dcmread, spool.waiting(name))}
    report = highdicom.sr.srread(next(p for p in spool.waiting(name) if p.stem == "report"))
    (region,) = report.content.get_volumetric_roi_measurement_groups()
    assert region.reference_type.meaning == "Referenced Segment"
    assert region.referenced_segment.referenced_sop_instance_uid == found["SEG"].SOPInstanceUID
    assert [one.value for one in region.get_measurements()] == [96.0, 7.5]
    (whole,) = report.content.get_image_measurement_groups()
    assert [one.value for one in whole.get_measurements()] == [4.2, 0.02]
    (said,) = whole.get_qualitative_evaluations()
    assert (said.name.meaning, said.value.meaning) == (
        "Comparable with the calibration scans", "Yes",
    )  # fmt: skip
    assert {one.referenced_sop_instance_uid for one in whole.source_images} == {
        ds.SOPInstanceUID for ds in slices
    }
    text = report.to_json()
    for part in ("Research use only", "brain/4", "left, front", "Score 4.20, p = 0.02"):
        assert part in text
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert sorted(len(series.ReferencedSOPSequence) for series in evidence) == [1, 16]


def test_the_page_tells_the_state_and_no_name(scored, tmp_path):
    spool, name = scored
    put(spool, study(1)[:3])
    troubles = {"sent": "cannot be reached", "scored": "", "fetched": "", "model": "E_GATE"}
    write_page(tmp_path / "p.html", spool.records(), [], "brain/4", SETTINGS, "A@b:1", troubles)
    text = (tmp_path / "p.html").read_text()
    assert name in text
    for part in (
        "1 receiving",
        "1 scored",
        "0 of 4",
        "Score 4.20",
        "cannot be reached",
        "E_GATE. Studies are scored by brain/4",
    ):
        assert part in text
    text += "".join(str(path) for path in spool.folder.rglob("*"))
    text += "".join(path.read_text() for path in spool.folder.rglob("*.json"))
    uid = study()[0].StudyInstanceUID.rpartition(".")[0]
    assert not [one for one in (*NAMES, uid + ".") if one in text]


def test_settled_studies_are_deleted_after_their_time_and_never_sent_again(scored):
    slices = study()
    spool, name = scored
    spool.delete_settled(0)
    assert len(spool.waiting(name)) == 4  # not sent yet
    with spool.changing(name) as record:
        for one in record.outgoing:
            one.state = "sent"
    spool.delete_settled(3600)
    assert list(spool.folder.rglob("*.dcm"))
    spool.delete_settled(0)
    assert not list(spool.folder.rglob("*.dcm"))
    put(Spool(spool.folder, PSEUDONYMS), slices)
    again = Spool(spool.folder, PSEUDONYMS)
    assert again.records()[0].instances == 16
    assert score(again, name).outgoing == []


def test_a_second_node_on_one_folder_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(EnvironmentFailure, match="E_BUSY"):
        run_node(tmp_path, "nowhere", "", SETTINGS, threading.Event())


@pytest.mark.parametrize("text", ["", "PACS", "PACS@host", "@host:1", "A" * 17 + "@h:1", "A@h:0"])
def test_a_peer_is_title_host_and_port(text):
    with pytest.raises(ConfigError, match="E_USAGE"):
        Peer.read(text)
    assert str(Peer.read("A B@[::1]:104")) == "A B@::1:104"
    with pytest.raises(ConfigError, match="E_USAGE"):
        checked_title("A\\B", "--allow")
