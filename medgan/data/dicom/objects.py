"""DICOM objects of results, in the patient and study of the scored series.

They hold patient data, by which the PACS of the hospital files them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from medgan.core.errors import DataError, EnvironmentFailure
from medgan.core.version import __version__
from medgan.data.dicom.files import quiet_pydicom
from medgan.data.dicom.references import once, refer, reference
from medgan.data.dicom.sources import REQUIRED, Source, source_slices

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RESEARCH = "research use only"
IDENTITY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
    *("OtherPatientIDsSequence", "PatientBirthDate", "PatientSex", "PatientAge"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription"),
    *("AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName"),
)
"""Elements of the patient and the study."""
_NUMBERS = {"map": 1, "regions": 2, "summary": 3, "report": 4}
"""Last digit of the series number of each object."""


def check_extra() -> None:
    """Whether highdicom, an optional dependency, is there.

    Raises:
        EnvironmentFailure: E_EXTRA.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise EnvironmentFailure(
            "E_EXTRA", "highdicom", "not installed, and DICOM objects need it",
            "run pip install 'medgan[dicom]'",
        ) from None  # fmt: skip


def map_object(
    source: Source, score_map: Float[np.ndarray, "X Y Z"], level: float, model: Mapping[str, Any]
) -> "Dataset":
    """A score map as a Parametric Map of floating point values.

    Args:
        source: what was scored.
        score_map: healthy standard deviations, on the grid of the series.
        level: threshold of the map, where the display begins.
        model: facts of the model.

    Raises:
        DataError: E_EXPORT.

    Reference: DICOM PS3.3 A.75; the quantity is Z-score of CID 7180.
    """

    def build() -> "Dataset":
        from highdicom import VOILUTTransformation
        from highdicom.pm import ParametricMap, RealWorldValueMapping
        from highdicom.sr import CodedConcept
        from pydicom.sr.codedict import codes

        frames = np.ascontiguousarray(score_map.transpose(2, 1, 0), np.float32)
        low, high = float(frames.min()), float(frames.max())
        mapping = RealWorldValueMapping(
            "SD", "Healthy standard deviations",
            CodedConcept("{SD}", "UCUM", "standard deviations of healthy scans"),
            (low, high), 1.0, 0.0, quantity_definition=codes.DCM.ZScore,
        )  # fmt: skip
        top = max(2 * level, high, 1.0)
        return ParametricMap(
            source_slices(source), frames, contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[
                VOILUTTransformation(
                    round((level + top) / 2, 3), round(max(top - level, 1.0), 3), "Unusual"
                )
            ],
            content_label="ANOMALY_MAP", content_description=f"Anomaly map, {RESEARCH}",
            series_description=f"medgan anomaly map, {RESEARCH}",
            **common(source, "map", model),
        )  # fmt: skip

    return made_of(source, build)


def regions_object(
    source: Source, region_map: Int[np.ndarray, "X Y Z"], model: Mapping[str, Any]
) -> "Dataset":
    """Regions as a binary Segmentation, a segment each.

    A region is where the map is high, for whatever reason, so its codes are "Spatial and
    Relational Concept" and "Selected region", not lesion.

    Args:
        source: what was scored.
        region_map: 0 and the numbers of regions from 1 on, on the grid of the series; at least
            one.
        model: facts of the model.

    Raises:
        DataError: E_EXPORT.

    Reference: DICOM PS3.3 A.51, CID 7150, and 111099 of DCM.
    """

    def build() -> "Dataset":
        from highdicom import AlgorithmIdentificationSequence
        from highdicom.seg import Segmentation, SegmentDescription
        from pydicom.sr.codedict import codes

        algorithm = AlgorithmIdentificationSequence(
            "medgan", codes.DCM.ArtificialIntelligence, __version__
        )
        segments = [
            SegmentDescription(
                number, f"unusual region {number}", codes.SCT.SpatialAndRelationalConcept,
                codes.DCM.SelectedRegion, "AUTOMATIC", algorithm,
            )
            for number in range(1, int(region_map.max()) + 1)
        ]  # fmt: skip
        frames = np.ascontiguousarray(region_map.transpose(2, 1, 0)).astype(np.uint16)
        return Segmentation(
            source_slices(source), frames, "BINARY", segments, content_label="UNUSUAL_REGIONS",
            content_description=f"Regions above the level of healthy maps, {RESEARCH}",
            series_description=f"medgan unusual regions, {RESEARCH}",
            **common(source, "regions", model),
        )  # fmt: skip

    return made_of(source, build)


def summary_object(
    source: Source, picture: UInt8[np.ndarray, "H W 3"], model: Mapping[str, Any]
) -> "Dataset":
    """A picture with text as a Secondary Capture, for viewers without other objects.

    Args:
        source: what was scored.
        picture: RGB; the text in it is declared as burned in.
        model: facts of the model.

    Raises:
        DataError: E_EXPORT.

    Reference: DICOM PS3.3 A.8.1.
    """

    def build() -> "Dataset":
        from highdicom.sc import SCImage
        from pydicom.sequence import Sequence as Items

        arguments = common(source, "summary", model)
        study = str(source.header.StudyInstanceUID)
        made = SCImage(
            picture, "RGB", 8, "PATIENT", study, patient_orientation=("L", "P"),
            series_description=f"medgan summary, {RESEARCH}", **arguments,
        )  # fmt: skip
        made.add_new("PatientOrientation", "CS", None)  # there are three planes
        made.ConversionType = "WSD"
        made.BurnedInAnnotation = "YES"
        made.LossyImageCompression = source.header.get("LossyImageCompression") or "00"
        references = [reference(frame) for frame in source.stack.frames]
        made.SourceImageSequence = Items(once(references))
        return made

    return made_of(source, build)


def made_of(source: Source, build: "Callable[[], Dataset]") -> "Dataset":
    """An object with the patient and study of its source and references to its files."""
    check_extra()
    try:
        with quiet_pydicom():
            made = build()
            refer(made, source)
            _identify(made, source.header)
    except Exception as error:  # of an odd header, whose text the error may quote
        what = f"the series' header does not allow it ({type(error).__name__})"
        raise DataError("E_EXPORT", source.case, what, "use the NIfTI maps") from None
    return made


def _identify(made: "Dataset", header: "Dataset") -> None:
    """Copies the patient and the study of a header into an object."""
    made.SpecificCharacterSet = "ISO_IR 192"
    for name in REQUIRED:
        setattr(made, name, None)
    for name in (*IDENTITY, "BodyPartExamined"):
        if name in header:
            made[name] = header[name]
    if made.Modality in ("SEG", "SR"):  # which may not have it
        return
    if "Laterality" in header:
        made["Laterality"] = header["Laterality"]
    elif "BodyPartExamined" not in header:
        made.Laterality = None


def common(source: Source, kind: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that all objects have in common."""
    first = 90
    with suppress(Exception):  # pydicom's, of any kind, for what is no number
        number = int(source.header.SeriesNumber)
        first = number if 0 < number < 10**6 else first
    return {
        "series_instance_uid": uid_of(source, kind, "series"),
        "series_number": 100 * first + _NUMBERS[kind],
        "sop_instance_uid": uid_of(source, kind, "instance"),
        "instance_number": 1,
        "manufacturer": "medgan",
        "manufacturer_model_name": "medgan",
        "software_versions": __version__,
        "device_serial_number": hashlib.sha256(
            json.dumps(model, sort_keys=True).encode()
        ).hexdigest()[:16],
    }


def uid_of(source: Source, *names: str) -> str:
    """A new UID; of a source with a seed the same one for the same names each time."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=[source.seed, *names] if source.seed else None))


def save_private(made: "Dataset", path: Path) -> None:
    """Writes an object that only its owner may read.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    from io import BytesIO

    from medgan.core.files import write_atomic

    file = BytesIO()
    with quiet_pydicom():
        made.save_as(file, enforce_file_format=True)
    write_atomic(path, file.getvalue(), private=True)
