"""Fifty studies and ten kills: every result comes back, none twice."""

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset

from medgan.core.volume import Volume
from medgan.data.dicom.conversion import Conversion
from medgan.data.dicom.geometry import TO_RAS
from medgan.data.layouts.listed import Listed
from medgan.data.pseudonyms import Pseudonyms
from medgan.deployment.pacs.listener import Listener
from medgan.deployment.pacs.spool import Spool
from medgan.model.model import Model
from tests.kit.command_line import MEDGAN
from tests.kit.dicom import save
from tests.kit.pacs import NAMES, Archive, send, study, write_model

STUDIES, KILLS, SECONDS = 50, 10, 2000


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port: int) -> bool:
    """Asked first, since pynetdicom does not close the socket of a refused connection."""
    with socket.socket() as one:
        return not one.connect_ex(("127.0.0.1", port))


def send_until_kept(studies: list[list[Dataset]], port: int, give_up: float) -> None:
    """As a PACS does: what was not answered with success is sent again."""
    for slices in studies:
        left = slices
        while left and time.monotonic() < give_up:
            statuses = (listens(port) and send(left, port)) or [-1] * len(left)
            left = [ds for ds, status in zip(left, statuses, strict=True) if status]
            time.sleep(0.5 if left else 0.05)


def regions_of(model: Model, slices: list[Dataset], folder: Path) -> Volume:
    """What the Segmentation must hold, scored directly."""
    with Conversion(folder) as conversion:
        (one,) = conversion.expand(Listed("s", "", {"image": save(slices, folder)}))
        volume, _ = conversion.volume(one.series, "c-1")
    found = model.score(volume).region_map
    assert found is not None
    return found


def assert_overlays(segmentation: Dataset, regions: Volume, path: Path) -> None:
    """Each marked voxel of the Segmentation is that of the series, and no other is marked."""
    segmentation.save_as(path, enforce_file_format=True)
    volume = highdicom.seg.segread(path).get_volume(
        combine_segments=True, allow_missing_positions=True
    )
    marked = np.argwhere(volume.array > 0)
    places = marked @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    back = np.linalg.inv(np.diag([*np.diag(TO_RAS), 1.0]) @ regions.affine)
    index = places @ back[:3, :3].T + back[:3, 3]
    np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
    again = np.zeros(regions.data.shape, int)
    again[tuple(np.rint(index).astype(int).T)] = volume.array[tuple(marked.T)]
    np.testing.assert_array_equal(again, regions.data)


class Killer:
    """Kills the node ten times: by the clock, after so many objects, before one is answered.

    Args:
        archive: gets the results.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive, self._random = archive, random.Random(0)
        self.node: subprocess.Popen[str] | None = None
        self._in_answer = threading.Event()
        self.kinds = ["clock"] * 3 + ["objects", "answer"] * 3 + ["objects"]
        self.counts: list[int] = []

    def kill(self, kind: str, end: float) -> None:
        """Waits for the moment, and kills."""
        assert self.node is not None
        objects = sum(self._archive.times.values()) + self._random.randint(1, 12)
        if kind == "clock":
            time.sleep(self._random.uniform(0, 12))  # at times within the start
        elif kind == "objects":
            while sum(self._archive.times.values()) < objects and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(self._random.uniform(0, 0.5))
        else:
            self._archive.kept = lambda count: self._kill_in_answer(count, objects)
            self._in_answer.wait(end - time.monotonic())
            self._archive.kept = lambda count: None
            self._in_answer.clear()
        self.node.kill()
        self.node.wait()
        self.counts.append(sum(self._archive.times.values()))

    def _kill_in_answer(self, count: int, at: int) -> None:
        """What was kept is not noted: the node does not live to see the answer."""
        if count >= at and not self._in_answer.is_set():
            assert self.node is not None
            self.node.kill()
            self.node.wait()
            self._in_answer.set()


@pytest.mark.slow
# pynetdicom's threads end in an exception when a connection says nothing until its time is over.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_connections_that_say_nothing_do_not_keep_a_peer_out(tmp_path):
    spool = Spool(tmp_path / "spool", Pseudonyms(b"s" * 32))
    listener = Listener(spool, "MEDGAN", ["PACS"], ("127.0.0.1", 0), deque())
    idle = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(30)]
    assert send(study()[:1], listener.port) == [0]
    for one in idle[:15]:
        one.close()
    assert send(study()[1:2], listener.port) == [0]
    time.sleep(8)  # in which they are dropped
    assert idle[20].recv(1) == b""
    listener.close()
    for one in idle:
        one.close()


@pytest.mark.slow
@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_fifty_studies_come_back_once_each_in_spite_of_ten_kills(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_model(tmp_path / "model")
    studies = [study(number, lesion=bool(number % 2)) for number in range(STUDIES)]
    port, end = free_port(), time.monotonic() + SECONDS
    with Archive().listening() as archive, (tmp_path / "log").open("w") as log:
        command = [
            *MEDGAN, "pacs", str(tmp_path / "model"), "--port", str(port), "--allow", "PACS",
            "--send-to", f"ARCHIVE@127.0.0.1:{archive.port}", "-o", str(tmp_path / "spool"),
            "--set", "pacs.quiet_seconds=6",  # longer than the scanner takes to send again
        ]  # fmt: skip
        scanner = threading.Thread(target=send_until_kept, args=(studies, port, end))
        scanner.start()
        killer = Killer(archive)
        for kind in [*killer.kinds, ""]:
            node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            killer.node = node
            if kind:
                killer.kill(kind, end)
        scanner.join()
        while time.monotonic() < end:
            if all("report" in archive.of(one) for one in studies):
                break
            time.sleep(0.5)
        time.sleep(3)
        node.send_signal(signal.SIGTERM)
        out, _ = node.communicate(timeout=60)
    assert node.returncode == 0, out
    assert f"{STUDIES} sent" in out
    assert len(killer.counts) == KILLS
    model = Model.load(tmp_path / "model")
    segmentations = 0
    for number, slices in enumerate(studies):
        found = archive.of(slices)  # at most one of each kind
        assert {"map", "summary", "report"} <= found.keys(), number
        regions = regions_of(model, slices, tmp_path / "series" / str(number))
        assert ("regions" in found) == regions.data.any()
        if "regions" in found:
            assert_overlays(found["regions"], regions, tmp_path / "seg.dcm")
            segmentations += 1
        assert {ds.PatientID for ds in found.values()} == {slices[0].PatientID}
    assert segmentations > STUDIES / 2
    again = sum(archive.times.values()) - len(archive.times)
    text = (tmp_path / "log").read_text() + (tmp_path / "spool" / "pacs.html").read_text()
    text += "".join(str(path) for path in (tmp_path / "spool").rglob("*"))
    text += "".join(path.read_text() for path in (tmp_path / "spool").rglob("*.json"))
    assert not [name for name in NAMES if name in text]
    with capsys.disabled():
        sys.stdout.write(
            f"\nobjects at each kill {killer.counts}; {len(archive.times)} objects, "
            f"{segmentations} segmentations; {again} sent again under the same UID\n"
        )
