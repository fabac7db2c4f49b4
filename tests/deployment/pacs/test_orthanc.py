"""A real PACS on both doors: Orthanc, where it is installed (apt-get install orthanc-dicomweb)."""

import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
import requests
from pydicom.uid import UID

from medgan.core.config import PacsConfig, ScoreConfig
from medgan.deployment.followed_model import Current, Following
from medgan.deployment.pacs.node import Node, NodeSettings
from medgan.deployment.pacs.peers import Peer
from tests.kit.pacs import StubModel, as_file, study

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("Orthanc") and PLUGIN.exists()), reason="Orthanc is not installed"
    ),
]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def orthanc(tmp_path):
    """Its URL, its DICOM port, and the port where it looks for the node."""
    http, dicom, node = free_port(), free_port(), free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "orthanc"), "IndexDirectory": str(tmp_path / "orthanc"),
        "HttpPort": http, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC", "DicomPort": dicom, "DicomCheckCalledAet": True,
        "DicomModalities": {"medgan": ["MEDGAN", "127.0.0.1", node]},
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    server = subprocess.Popen(
        ["Orthanc", str(tmp_path / "orthanc.json")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{http}"
    for _ in range(150):
        try:
            requests.get(f"{url}/system", timeout=2).raise_for_status()
            break
        except requests.RequestException:
            time.sleep(0.2)
    yield url, dicom, node
    server.terminate()
    server.wait(20)


@contextmanager
def running(folder, **settings):
    values = {
        "title": "MEDGAN", "host": "127.0.0.1", "port": 0, "allowed": [], "send_to": None,
        "dicomweb": "", "fetch_days": 0, "scoring": ScoreConfig(),
        "timing": PacsConfig(quiet_seconds=2, poll_seconds=1),
    }  # fmt: skip
    followed = SimpleNamespace(
        current=lambda: Current(StubModel(), "brain/4"), state=Following("brain/4")
    )
    stop, ready = threading.Event(), threading.Event()
    node = Node(folder, followed, NodeSettings(**(values | settings)), stop)
    thread = threading.Thread(target=node.run, args=(lambda port: ready.set(),))
    thread.start()
    assert ready.wait(60)
    yield node
    stop.set()
    thread.join()


def upload(url, slices):
    for ds in slices:
        answer = requests.post(f"{url}/instances", data=as_file(ds), timeout=30).json()
    return answer["ParentStudy"]


def kinds(url, name):
    """Class of each instance of a study that is not the scan's, sorted."""
    found = requests.get(f"{url}/studies/{name}/instances", timeout=30).json()
    made = []
    for one in found:
        file = requests.get(f"{url}/instances/{one['ID']}/file", timeout=30).content
        ds = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
        made.append(UID(ds.SOPClassUID).keyword)
    return sorted(kind for kind in made if kind != "MRImageStorage")


def wait_for_results(url, name):
    for _ in range(120):
        if len(kinds(url, name)) >= 4:
            break
        time.sleep(1)
    time.sleep(4)  # whatever else would come
    return kinds(url, name)


RESULTS = [
    "ComprehensiveSRStorage", "ParametricMapStorage", "SecondaryCaptureImageStorage",
    "SegmentationStorage",
]  # fmt: skip


def test_orthanc_sends_a_study_and_gets_its_results_by_c_store(orthanc, tmp_path):
    url, dicom, port = orthanc
    peer = Peer("ORTHANC", "127.0.0.1", dicom)
    with running(tmp_path / "spool", port=port, allowed=["ORTHANC"], send_to=peer) as node:
        name = upload(url, study())
        requests.post(f"{url}/modalities/medgan/echo", timeout=30).raise_for_status()
        sent = requests.post(f"{url}/modalities/medgan/store", data=name, timeout=60).json()
        assert sent["FailedInstancesCount"] == 0
        assert wait_for_results(url, name) == RESULTS
        # The whole study once more, results included, as a rule may send it.
        sent = requests.post(f"{url}/modalities/medgan/store", data=name, timeout=60).json()
        assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (20, 0)
        assert wait_for_results(url, name) == RESULTS
    assert node.counts()["sent"] == 1


def test_a_study_is_fetched_from_orthanc_and_answered_over_dicomweb(orthanc, tmp_path):
    url, _, _ = orthanc
    name = upload(url, study(1))
    with running(tmp_path / "spool", dicomweb=f"{url}/dicom-web", fetch_days=1) as node:
        assert wait_for_results(url, name) == RESULTS
    assert node.counts()["sent"] == 1
    with running(tmp_path / "spool", dicomweb=f"{url}/dicom-web", fetch_days=1):
        time.sleep(4)
    assert kinds(url, name) == RESULTS
