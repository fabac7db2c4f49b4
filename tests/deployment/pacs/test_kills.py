"""Fifty studies and ten kills: every result comes back, none twice."""

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset

from medgan.core.volume import Volume
from medgan.data.dicom.conversion import Conversion
from medgan.data.dicom.geometry import TO_RAS
from medgan.data.layouts.listed import Listed
from medgan.model.model import Model
from tests.kit.command_line import MEDGAN
from tests.kit.dicom import save
from tests.kit.pacs import NAMES, Archive, send, study, write_model

STUDIES, KILLS, SECONDS = 50, 10, 3000


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def send_until_kept(studies: list[list[Dataset]], port: int, give_up: float) -> None:
    """As a PACS does: what was not answered with success is sent again."""
    for slices in studies:
        left = slices
        while left and time.monotonic() < give_up:
            statuses = send(left, port) or [-1] * len(left)
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


@pytest.mark.slow
# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_fifty_studies_come_back_once_each_in_spite_of_ten_kills(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_model(tmp_path / "model")
    studies = [study(number, lesion=bool(number % 2)) for number in range(STUDIES)]
    port, end = free_port(), time.monotonic() + SECONDS
    moments = random.Random(0)
    with Archive().listening() as archive:
        command = [
            *MEDGAN, "pacs", str(tmp_path / "model"), "--port", str(port), "--allow", "PACS",
            "--send-to", f"ARCHIVE@127.0.0.1:{archive.port}", "-o", str(tmp_path / "spool"),
            "--set", "pacs.quiet_seconds=1",
        ]  # fmt: skip
        scanner = threading.Thread(target=send_until_kept, args=(studies, port, end))
        scanner.start()
        log = (tmp_path / "log").open("w")
        done_at = []
        for kill in range(KILLS + 1):
            node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            if kill < KILLS:
                if kill % 5:  # every fifth may fall into the start
                    assert node.stdout.readline().startswith("ready")
                time.sleep(moments.uniform(0, 6))
                node.send_signal(signal.SIGKILL)
                node.wait()
                done_at.append(sum("report" in archive.of(one) for one in studies))
        scanner.join()
        while time.monotonic() < end:
            if all("report" in archive.of(one) for one in studies):
                break
            time.sleep(0.5)
        time.sleep(3)
        node.send_signal(signal.SIGTERM)
        out, _ = node.communicate(timeout=60)
        log.close()
    assert node.returncode == 0, out
    assert f"{STUDIES} sent" in out
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
            f"\nreports after each kill {done_at}; {len(archive.times)} objects, {segmentations} "
            f"segmentations; {again} sent again under the same UID\n"
        )
