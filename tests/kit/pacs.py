"""A DICOM node to test: a tiny calibrated model, studies, a peer that sends and one that keeps."""

import gc
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import date
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.presentation import build_context

from medgan.anomaly.calibration import ScoringConfig
from medgan.anomaly.regions import Region
from medgan.core.volume import Volume
from medgan.data.dicom.synthetic import write_synthetic_series
from medgan.deployment.pacs.spool import Spool
from medgan.model.outputs import ScanScore
from tests.kit.models import GRID, make_model
from tests.kit.volumes import AFFINE, ball, scans

NAMES = ("ZQMUSTERMANN", "ZQ4711", "19310417", "ZQHOSPITAL", "ZQACC")
"""Parts of the headers of a study that nothing outside of the PACS may hold."""


def write_model(folder: Path) -> Path:
    """A model of balls, calibrated on twenty of them."""
    model = make_model(GRID)
    model.calibrate(scans(20))
    model.save(folder)
    return folder


class StubModel:
    """In place of a model: every scan has the same score, and one region of 2 x 3 x 2 voxels."""

    facts: ClassVar[dict[str, str]] = {"medgan": "1"}
    digest = "d"
    preprocessing = GRID

    def __init__(self, comparable: bool = True) -> None:
        self.comparable = comparable
        self.needed_calibration = SimpleNamespace(
            scores=np.arange(5.0), level=3.0, scoring_config=ScoringConfig(())
        )

    def prepare(self, scan: Volume, case: str) -> Volume:
        """The scan as it is."""
        return scan

    def score(self, scan: Volume, label_map: None, smallest_mm3: float) -> ScanScore:
        """The score of any scan."""
        heat, numbers = np.zeros(scan.data.shape, np.float32), np.zeros(scan.data.shape, np.int16)
        heat[4:6, 5:8, 6:8], numbers[4:6, 5:8, 6:8] = 7.5, 1
        region = Region(1, 96.0, 7.5, 7.5, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), place="left, front")
        return ScanScore(
            4.2, 0.02 if self.comparable else None, {"density": 4.2}, scan.like(heat), scan,
            (region,), scan.like(numbers), () if self.comparable else ("said so",),
        )  # fmt: skip


def study(number: int = 0, lesion: bool = True, inverted: bool = False) -> list[Dataset]:
    """The slices of a ball, 16 x 16 x 16 voxels of 2 mm, of a patient of its own.

    The same arguments give the same UIDs.
    """
    return deepcopy(_study(number, lesion, inverted))


@cache
def _study(number: int, lesion: bool, inverted: bool) -> list[Dataset]:
    data = ball(np.random.default_rng(1000 + number))
    if lesion:
        data[6:9, 6:9, 9:12] += 60
    if inverted:
        data = 150 - data
    with TemporaryDirectory() as folder:
        write_synthetic_series(Volume(data.astype(np.float32), AFFINE), Path(folder), "MR", "test")
        found = [pydicom.dcmread(path) for path in sorted(Path(folder).iterdir())]
    for ds in found:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        ds.Manufacturer = ds.ManufacturerModelName = "Scanner"
        ds.PatientID, ds.PatientName = f"ZQ4711{number}", "ZQMUSTERMANN^MAX"
        ds.PatientBirthDate, ds.InstitutionName = "19310417", "ZQHOSPITAL"
        ds.AccessionNumber, ds.StudyID = f"ZQACC{number}", "1"
        ds.StudyDate, ds.StudyTime = f"{date.today():%Y%m%d}", "120000"
    return found


def as_file(ds: Dataset) -> bytes:
    """A slice as it lies on the disk."""
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def put(spool: Spool, slices: list[Dataset]) -> str:
    """Stores a study as the listener does, and gives its pseudonym."""
    for ds in slices:
        name = spool.store(ds.StudyInstanceUID, ds.SOPInstanceUID, as_file(ds))
    return name


def send(
    slices: list[Dataset], port: int, calling: str = "PACS", called: str = "MEDGAN"
) -> list[int]:
    """Sends by C-STORE; the statuses, -1 without an answer, none without an association."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5  # until a kill is noticed
    for sop_class, syntax in {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in slices}:
        ae.add_requested_context(sop_class, syntax)
    opened: list[Any] = []
    note = (evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket))
    found = ae.associate("127.0.0.1", port, ae_title=called, evt_handlers=[note])
    statuses = []
    for ds in slices if found.is_established else ():
        going = found.is_established
        statuses.append(found.send_c_store(ds).get("Status", -1) if going else -1)
    found.release()
    for one in opened:  # pynetdicom leaves those to a killed peer open
        one.close()
    return statuses


class Archive:
    """A peer that keeps what it gets.

    Attributes:
        objects: by SOP Instance UID, the last that came.
        times: how often each came.
        status: that it answers.
        kept: called with the number of objects after one was kept, before it is answered.
        port: where it listens.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Dataset] = {}
        self.times: Counter[str] = Counter()
        self.status = 0x0000
        self.kept: Callable[[int], None] = lambda count: None
        self.port = 0
        self._lock = threading.Lock()

    def _store(self, event: Any) -> int:
        data = event.encoded_dataset()
        ds = pydicom.dcmread(BytesIO(data))
        with self._lock:
            if self.status == 0:
                self.objects[ds.SOPInstanceUID] = ds
                self.times[ds.SOPInstanceUID] += 1
                self.kept(sum(self.times.values()))
            return self.status

    @contextmanager
    def listening(self, port: int = 0, classes: list[str] | None = None) -> Iterator["Archive"]:
        """Takes calls until the end.

        Args:
            port: where; 0 is any.
            classes: that it accepts; all without any.
        """
        ae = AE(ae_title="ARCHIVE")
        contexts = (
            [build_context(c) for c in classes] if classes else AllStoragePresentationContexts
        )
        for context in contexts:
            ae.add_supported_context(context.abstract_syntax)
        opened: list[Any] = []
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket)),
        ]
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        self.port = server.server_address[1]
        try:
            yield self
        finally:
            ae.shutdown()
            for one in opened:  # pynetdicom leaves those of killed peers open
                one.close()

    def of(self, slices: list[Dataset]) -> dict[str, Dataset]:
        """What came of a study, by modality: OT is the map, or the picture."""
        found = [ds for ds in list(self.objects.values())
                 if ds.StudyInstanceUID == slices[0].StudyInstanceUID]  # fmt: skip
        kinds = {}
        for ds in found:
            kinds[kind_of(ds)] = ds
        assert len(kinds) == len(found), [kind_of(ds) for ds in found]
        return kinds


@contextmanager
def no_leaked_sockets() -> Iterator[None]:
    """pynetdicom leaves the socket of a refused connection to the garbage collector."""
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def kind_of(ds: Dataset) -> str:
    """map, regions, summary or report."""
    name = pydicom.uid.UID(ds.SOPClassUID).keyword
    return {
        "ParametricMapStorage": "map", "SegmentationStorage": "regions",
        "SecondaryCaptureImageStorage": "summary", "ComprehensiveSRStorage": "report",
    }[name]  # fmt: skip
