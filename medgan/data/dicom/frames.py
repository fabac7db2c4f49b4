"""What a DICOM header says of each of its slices; no voxel is decoded here."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.core.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SINGLE = {"1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR"}
"""Storage classes of one slice a file."""
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # converted from single slices
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
"""Storage classes of many slices a file, each with functional groups."""
MODALITIES = SINGLE | ENHANCED
DIRECTORY = "1.2.840.10008.1.3.10"
"""A DICOMDIR: an index of other files."""
OTHER_MODALITIES = frozenset(
    "AU BMD CR DOC DX ECG FID IO IVUS KO M3D MG NM OCT OP OT PLAN PR PT PX REG RF RG RTDOSE "
    "RTIMAGE RTPLAN RTRECORD RTSTRUCT RWV SEG SM SMR SR STAIN US VL XA XC".split()
)
"""Standard terms that may be printed; anything else in the tag might be somebody's name."""
DEFLATED = "1.2.840.10008.1.2.1.99"
_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality",
    "PatientID", "IssuerOfPatientID", "ImageType", "BurnedInAnnotation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "GantryDetectorTilt", "FrameOfReferenceUID", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "ModalityLUTSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
NAMED = (".dcm", ".dicom", ".ima")
_PREAMBLE = 128


@dataclass(frozen=True)
class Frame:
    """One slice as its header describes it. Texts and UIDs in here never leave this room.

    Attributes:
        path, number: the file and which of its frames.
        series, instance, sop_class, study, patient, reference: UIDs; `patient` is ID^ISSUER, or
            the ID alone.
        modality: MR, CT, another standard term, or "other".
        image: whether the file holds a scan that medgan reads.
        enhanced: whether it is of a multi-frame class.
        kind: values of ImageType or FrameType.
        syntax: transfer syntax UID.
        frames: frames in the file.
        rows, columns, allocated, stored, high_bit, signed, samples, photometric: of the pixels;
            0 or empty where the header is silent.
        position: mm, LPS, centre of the first pixel; None when missing.
        cosines: of a row and of a column; None when missing.
        pixel_spacing: mm between rows and between columns; None when missing.
        thickness, apart: slice thickness and nominal distance of slices in mm; 0 when missing.
        tilt: degrees of the gantry.
        slope, intercept: of the rescaling; None when missing or not a number.
        unit: of the rescaling; a lookup table instead counts as the unit "LUT".
        burned_in: whether the pixels hold text.
    """

    path: Path
    number: int = 0
    series: str = ""
    instance: str = ""
    sop_class: str = ""
    study: str = ""
    patient: str = ""
    reference: str = ""
    modality: str = "other"
    image: bool = False
    enhanced: bool = False
    kind: tuple[str, ...] = ()
    syntax: str = ""
    frames: int = 1
    rows: int = 0
    columns: int = 0
    allocated: int = 0
    stored: int = 0
    high_bit: int = 0
    signed: bool = False
    samples: int = 1
    photometric: str = ""
    position: tuple[float, ...] | None = None
    cosines: tuple[float, ...] | None = None
    pixel_spacing: tuple[float, ...] | None = None
    thickness: float = 0.0
    apart: float = 0.0
    tilt: float = 0.0
    slope: float | None = None
    intercept: float | None = None
    unit: str = ""
    burned_in: bool = False


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keeps pydicom's messages off the terminal: they quote what headers say."""
    logger = logging.getLogger("pydicom")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def is_dicom(path: Path) -> bool:
    """Whether a plain file begins as DICOM does, with its preamble or, as old ones, without.

    Without a preamble any bytes might look like a first element, so the name must not say
    that they are something else.
    """
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(_PREAMBLE + 4)
    except OSError:
        return False
    if start[_PREAMBLE:] == b"DICM":
        return True
    named = _is_named_so(path)
    group, element = start[:2], int.from_bytes(start[2:4], "little")
    if not named or group not in (b"\x02\x00", b"\x08\x00") or element > 0x18:
        return False
    length = int.from_bytes(start[4:8], "little")
    explicit = start[4:6] in (b"UL", b"CS", b"UI", b"DA", b"OB", b"SH", b"LO")
    return explicit or (0 < length <= 128 and length % 2 == 0)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is DICOM or claims so by its name: a damaged one must not go missing."""
    return (path.suffix.lower() in NAMED and path.is_file()) or is_dicom(path)


def looks_lost(path: Path) -> bool:
    """Whether a file may be what a broken transfer left of DICOM.

    It is empty, ends within the preamble, begins with nothing but zeros, or may not be read. Only
    beside DICOM does that say anything.
    """
    try:
        if not path.is_file() or not _is_named_so(path):
            return False
        with path.open("rb") as file:
            return not any(file.read(_PREAMBLE + 4))
    except OSError:
        return True


def _is_named_so(path: Path) -> bool:
    return not path.suffix or path.suffix.lower() in NAMED or path.suffix[1:].isdigit()


def read_frames(path: Path) -> list[Frame]:
    """The frames that a file announces; none for a DICOMDIR, one bare frame for what is no scan.

    Raises:
        DataError: E_DICOM, E_EMPTY, E_SYNTAX, E_UNREADABLE; without the name of the file.
    """
    import pydicom
    from pydicom.filereader import read_file_meta_info

    remedy = "export it again"
    try:
        with quiet_pydicom():
            with path.open("rb") as file:
                start = file.read(_PREAMBLE + 4)
            if not any(start):
                raise DataError("E_EMPTY", "a file", "holds nothing, or nothing but zeros", remedy)
            if not is_dicom(path):
                raise DataError("E_DICOM", "a file", "not DICOM in spite of its name", remedy)
            whole = start[_PREAMBLE:] == b"DICM"
            meta = read_file_meta_info(str(path)) if whole else None
            if meta is not None and meta.get("MediaStorageSOPClassUID") == DIRECTORY:
                return []
            if meta is not None and meta.get("TransferSyntaxUID") == DEFLATED:
                # A small deflated file can fill any memory as it is opened.
                raise DataError(
                    "E_SYNTAX", "a file", "deflated, which is not read", "export it uncompressed"
                )
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=list(_TAGS), force=not whole
            )
            return _frames(header, path)
    except DataError:
        raise
    except OSError as error:
        if error.errno is None:  # pydicom's own
            raise DataError("E_DICOM", "a file", "cannot be read as DICOM", remedy) from None
        raise DataError(
            "E_UNREADABLE", "a file", "has vanished or may not be read", "check that it is there"
        ) from None
    except RecursionError:
        what = "sequences lie too deep in each other"
        raise DataError("E_DICOM", "a file", what, remedy) from None
    except Exception:  # a damaged file makes pydicom raise nearly anything
        raise DataError("E_DICOM", "a file", "cannot be read as DICOM", remedy) from None


def _frames(header: "Dataset", path: Path) -> list[Frame]:
    sop_class = _text(header, "SOPClassUID")
    if sop_class == DIRECTORY:
        return []
    series = _text(header, "SeriesInstanceUID")
    if not series:
        raise DataError("E_DICOM", "a file", "no SeriesInstanceUID", "export it again")
    term = _text(header, "Modality").upper()
    modality = MODALITIES.get(sop_class) or (term if term in OTHER_MODALITIES else "other")
    if modality == "other" and term in MODALITIES.values():
        modality = term
    issuer = _text(header, "IssuerOfPatientID")
    patient = _text(header, "PatientID")
    common = Frame(
        path, series=series, instance=_text(header, "SOPInstanceUID"), sop_class=sop_class,
        study=_text(header, "StudyInstanceUID"),
        patient=f"{patient}^{issuer}" if patient and issuer else patient,
        reference=_text(header, "FrameOfReferenceUID"), modality=modality,
        image=sop_class in MODALITIES, enhanced=sop_class in ENHANCED,
        kind=_terms(header, "ImageType"), syntax=_syntax(header),
        frames=max(1, _whole(header, "NumberOfFrames")),
        burned_in=_text(header, "BurnedInAnnotation").upper() == "YES",
    )  # fmt: skip
    if not common.image:
        return [common]
    common = replace(
        common, rows=_whole(header, "Rows"), columns=_whole(header, "Columns"),
        allocated=_whole(header, "BitsAllocated"), stored=_whole(header, "BitsStored"),
        high_bit=_whole(header, "HighBit"),
        signed=_whole(header, "PixelRepresentation") == 1,
        samples=_whole(header, "SamplesPerPixel") or 1,
        photometric=_text(header, "PhotometricInterpretation").upper(),
        tilt=_number(header, "GantryDetectorTilt") or 0.0,
    )  # fmt: skip
    if common.enhanced:
        return _enhanced_frames(header, common)
    slope, intercept = _rescaling(header)
    # MR has no scale of its own and may leave the rescaling out; CT may not.
    if common.modality == "MR" and not {"RescaleSlope", "RescaleIntercept"} & set(header.dir()):
        slope, intercept = 1.0, 0.0
    return [
        replace(
            _placed(common, header, header, header), slope=slope, intercept=intercept,
            unit="LUT" if "ModalityLUTSequence" in header else _text(header, "RescaleType").upper(),
        )
    ]  # fmt: skip


def _enhanced_frames(header: "Dataset", common: Frame) -> list[Frame]:
    """A frame for each item of the per-frame functional groups; one without place if none."""
    shared = _items(header, "SharedFunctionalGroupsSequence")
    each = _items(header, "PerFrameFunctionalGroupsSequence")
    if len(each) != common.frames:
        return [common]
    frames = []
    for number, own in enumerate(each):
        groups = [own, *shared]
        frame = _placed(
            replace(common, number=number),
            _group(groups, "PlanePositionSequence"),
            _group(groups, "PlaneOrientationSequence"),
            _group(groups, "PixelMeasuresSequence"),
        )
        values = _group(groups, "PixelValueTransformationSequence")
        slope, intercept = _rescaling(values) if values is not None else (1.0, 0.0)
        if values is None and common.modality == "CT":
            slope = intercept = None
        kind = _group(groups, f"{common.modality}ImageFrameTypeSequence")
        frames.append(
            replace(
                frame, slope=slope, intercept=intercept,
                kind=(_terms(kind, "FrameType") if kind is not None else ()) or common.kind,
                unit=_text(values, "RescaleType").upper() if values is not None else "",
            )
        )  # fmt: skip
    return frames


def _placed(
    frame: Frame,
    position: "Dataset | None",
    orientation: "Dataset | None",
    measures: "Dataset | None",
) -> Frame:
    """A frame with its place, from the data sets that hold the three parts of it."""
    return replace(
        frame,
        position=_numbers(position, "ImagePositionPatient", 3),
        cosines=_numbers(orientation, "ImageOrientationPatient", 6),
        pixel_spacing=_numbers(measures, "PixelSpacing", 2),
        thickness=_number(measures, "SliceThickness") or 0.0,
        apart=abs(_number(measures, "SpacingBetweenSlices") or 0.0),
    )


def _rescaling(header: "Dataset") -> tuple[float | None, float | None]:
    return _number(header, "RescaleSlope"), _number(header, "RescaleIntercept")


def _group(groups: Sequence["Dataset"], name: str) -> "Dataset | None":
    """The first item of a functional group, the frame's own before the shared one."""
    for group in groups:
        if items := _items(group, name):
            return items[0]
    return None


def _items(header: "Dataset", name: str) -> list[Any]:
    value = header.get(name)
    return list(value) if value else []


def _syntax(header: "Dataset") -> str:
    meta = getattr(header, "file_meta", None)
    named = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    implicit = header.original_encoding[0]
    return named or ("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1")


def _text(header: "Dataset", name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value).strip()


def _terms(header: "Dataset", name: str) -> tuple[str, ...]:
    value = header.get(name)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(term).strip().upper() for term in values)


def _numbers(header: "Dataset | None", name: str, count: int) -> tuple[float, ...] | None:
    """So many finite numbers, or None."""
    value = None if header is None else header.get(name)
    try:
        found = tuple(float(part) for part in value) if value is not None else ()
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def _number(header: "Dataset | None", name: str) -> float | None:
    try:
        value = None if header is None else header.get(name)
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _whole(header: "Dataset", name: str) -> int:
    number = _number(header, name)
    return int(number) if number is not None and 0 <= number < 2**31 else 0
