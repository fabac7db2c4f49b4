"""The slices that a DICOM header describes; no voxel is decoded here."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.core.errors import DataError
from medgan.data.dicom.elements import (
    get_first_item,
    get_items,
    get_natural,
    get_number,
    get_numbers,
    get_terms,
    get_text,
    get_transfer_syntax,
)
from medgan.data.dicom.files import DEFLATED, PREAMBLE, is_dicom, quiet_pydicom, read_meta

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SINGLE = {"1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR"}
"""Storage classes with one slice in a file."""
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # converted from single slices
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
"""Storage classes with many slices in a file, each with functional groups."""
MODALITIES = SINGLE | ENHANCED
DIRECTORY = "1.2.840.10008.1.3.10"
"""A DICOMDIR: an index of other files."""
OTHER_MODALITIES = frozenset(
    "AU BMD CR DOC DX ECG FID IO IVUS KO M3D MG NM OCT OP OT PLAN PR PT PX REG RF RG RTDOSE "
    "RTIMAGE RTPLAN RTRECORD RTSTRUCT RWV SEG SM SMR SR STAIN US VL XA XC".split()
)
"""Standard terms that may be printed; anything else in the tag might be a name."""
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


@dataclass(frozen=True)
class Frame:
    """One slice as its header describes it. Texts and UIDs must not leave this package.

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
            0 or empty where the header does not say.
        position: mm, LPS, centre of the first pixel; None when missing.
        cosines: of a row and of a column; None when missing.
        pixel_spacing: mm between rows and between columns; None when missing.
        thickness, apart: slice thickness and nominal distance of slices in mm; 0 when missing.
        tilt: degrees of the gantry.
        slope, intercept: of the rescaling; None when missing or not a number.
        unit: of the rescaling; "LUT" where there is a lookup table instead.
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


def read_frames(path: Path) -> list[Frame]:
    """The frames of a file; none for a DICOMDIR, one without geometry for what is no scan.

    Raises:
        DataError: E_DICOM, E_EMPTY, E_SYNTAX, E_UNREADABLE; without the name of the file.
    """
    import pydicom

    remedy = "export it again"
    try:
        with quiet_pydicom():
            with path.open("rb") as file:
                empty = not any(file.read(PREAMBLE + 4))
            if empty:
                raise DataError("E_EMPTY", "a file", "is empty, or holds only zeros", remedy)
            if not is_dicom(path):
                raise DataError("E_DICOM", "a file", "is named like DICOM and is not", remedy)
            with path.open("rb") as file:
                meta = read_meta(file)
            if meta.get("MediaStorageSOPClassUID") == DIRECTORY:
                return []
            if meta.get("TransferSyntaxUID") == DEFLATED:
                raise DataError(
                    "E_SYNTAX", "a file", "deflated, which is not read", "export it uncompressed"
                )
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True
            )
            return _frames(header, path)
    except DataError:
        raise
    except OSError as error:
        if error.errno is None:  # pydicom's own
            raise DataError("E_DICOM", "a file", "cannot be read as DICOM", remedy) from None
        raise DataError(
            "E_UNREADABLE", "a file", "is missing or may not be read", "check that it is there"
        ) from None
    except RecursionError:
        what = "sequences are nested too deeply"
        raise DataError("E_DICOM", "a file", what, remedy) from None
    except Exception:  # a damaged file makes pydicom raise nearly anything
        raise DataError("E_DICOM", "a file", "cannot be read as DICOM", remedy) from None


def _frames(header: "Dataset", path: Path) -> list[Frame]:
    sop_class = get_text(header, "SOPClassUID")
    if sop_class == DIRECTORY:
        return []
    series = get_text(header, "SeriesInstanceUID")
    if not series:
        raise DataError("E_DICOM", "a file", "no SeriesInstanceUID", "export it again")
    term = get_text(header, "Modality").upper()
    modality = MODALITIES.get(sop_class) or (term if term in OTHER_MODALITIES else "other")
    if modality == "other" and term in MODALITIES.values():
        modality = term
    issuer = get_text(header, "IssuerOfPatientID")
    patient = get_text(header, "PatientID")
    common = Frame(
        path, series=series, instance=get_text(header, "SOPInstanceUID"), sop_class=sop_class,
        study=get_text(header, "StudyInstanceUID"),
        patient=f"{patient}^{issuer}" if patient and issuer else patient,
        reference=get_text(header, "FrameOfReferenceUID"), modality=modality,
        image=sop_class in MODALITIES, enhanced=sop_class in ENHANCED,
        kind=get_terms(header, "ImageType"), syntax=get_transfer_syntax(header),
        frames=max(1, get_natural(header, "NumberOfFrames")),
        burned_in=get_text(header, "BurnedInAnnotation").upper() == "YES",
    )  # fmt: skip
    if not common.image:
        return [common]
    common = replace(
        common, rows=get_natural(header, "Rows"), columns=get_natural(header, "Columns"),
        allocated=get_natural(header, "BitsAllocated"), stored=get_natural(header, "BitsStored"),
        high_bit=get_natural(header, "HighBit"),
        signed=get_natural(header, "PixelRepresentation") == 1,
        samples=get_natural(header, "SamplesPerPixel") or 1,
        photometric=get_text(header, "PhotometricInterpretation").upper(),
        tilt=get_number(header, "GantryDetectorTilt") or 0.0,
    )  # fmt: skip
    if common.enhanced:
        return _enhanced_frames(header, common)
    slope, intercept = _rescaling(header)
    # MR has no scale of its own and may leave the rescaling out; CT may not.
    if common.modality == "MR" and not {"RescaleSlope", "RescaleIntercept"} & set(header.dir()):
        slope, intercept = 1.0, 0.0
    return [
        replace(
            _with_geometry(common, header, header, header), slope=slope, intercept=intercept,
            unit="LUT"
            if "ModalityLUTSequence" in header
            else get_text(header, "RescaleType").upper(),
        )
    ]  # fmt: skip


def _enhanced_frames(header: "Dataset", common: Frame) -> list[Frame]:
    """A frame for each item of the per-frame functional groups; one without if none."""
    shared = get_items(header, "SharedFunctionalGroupsSequence")
    each = get_items(header, "PerFrameFunctionalGroupsSequence")
    if len(each) != common.frames:
        return [common]
    frames = []
    for number, own in enumerate(each):
        groups = [own, *shared]
        frame = _with_geometry(
            replace(common, number=number),
            get_first_item(groups, "PlanePositionSequence"),
            get_first_item(groups, "PlaneOrientationSequence"),
            get_first_item(groups, "PixelMeasuresSequence"),
        )
        values = get_first_item(groups, "PixelValueTransformationSequence")
        slope, intercept = _rescaling(values) if values is not None else (1.0, 0.0)
        if values is None and common.modality == "CT":
            slope = intercept = None
        kind = get_first_item(groups, f"{common.modality}ImageFrameTypeSequence")
        frames.append(
            replace(
                frame, slope=slope, intercept=intercept,
                kind=(get_terms(kind, "FrameType") if kind is not None else ()) or common.kind,
                unit=get_text(values, "RescaleType").upper() if values is not None else "",
            )
        )  # fmt: skip
    return frames


def _with_geometry(
    frame: Frame,
    position: "Dataset | None",
    orientation: "Dataset | None",
    measures: "Dataset | None",
) -> Frame:
    """A frame with its geometry, from the data sets that hold the three parts of it."""
    return replace(
        frame,
        position=get_numbers(position, "ImagePositionPatient", 3),
        cosines=get_numbers(orientation, "ImageOrientationPatient", 6),
        pixel_spacing=get_numbers(measures, "PixelSpacing", 2),
        thickness=get_number(measures, "SliceThickness") or 0.0,
        apart=abs(get_number(measures, "SpacingBetweenSlices") or 0.0),
    )


def _rescaling(header: "Dataset") -> tuple[float | None, float | None]:
    return get_number(header, "RescaleSlope"), get_number(header, "RescaleIntercept")
