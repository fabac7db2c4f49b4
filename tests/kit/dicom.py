"""Small synthetic DICOM series, healthy ones to be broken."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
    generate_uid,
)

from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms

CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}
MATRIX = (40, 32)
"""Rows and columns; encoders of JPEG 2000 want no fewer than 32."""
AXIAL = (1, 0, 0, 0, 1, 0)
SPACING = (0.75, 0.5)
"""mm between rows and between columns."""
STEP = 2.5
PLACE = np.array([-40.0, -30.0, 100.0])


def oblique() -> tuple[float, ...]:
    """Cosines of a plane turned about all three axes."""
    a, b, c = 0.3, -0.2, 0.15
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return tuple((x @ y @ z)[:, :2].T.flatten())


def stored_values(slices: int, bits: int, signed: bool, seed: int = 0) -> np.ndarray:
    """Random values (slices, rows, columns) that use every bit."""
    low = -(2 ** (bits - 1)) if signed else 0
    kind = {8: "1", 16: "2", 32: "4"}[8 if bits <= 8 else 16 if bits <= 16 else 32]
    values = np.random.default_rng(seed).integers(low, low + 2**bits, (slices, *MATRIX))
    values[0, 0, :2] = low, low + 2**bits - 1
    return values.astype(("i" if signed else "u") + kind)


def affine_of(cosines=AXIAL, step=STEP, spacing=SPACING, place=PLACE) -> np.ndarray:
    """What the series' affine must be: columns, rows, slices to RAS mm."""
    along, down = np.reshape(cosines, (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = along * spacing[1]
    affine[:3, 1] = down * spacing[0]
    affine[:3, 2] = np.cross(along, down) * step
    affine[:3, 3] = place
    return np.diag([-1, -1, 1, 1]) @ affine


def make_series(
    modality="MR", slices=8, bits=12, signed=False, cosines=AXIAL, step=STEP, seed=0, **tags
) -> list[Dataset]:
    """Data sets of a healthy series, first slice first.

    Args:
        tags: further elements of every slice, such as PatientID.
    """
    values = stored_values(slices, bits, signed, seed)
    normal = np.cross(*np.reshape(cosines, (2, 3)))
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    made = []
    for number in range(slices):
        ds = _start(CLASSES[modality], modality, values[number], bits, signed)
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.InstanceNumber = number + 1
        ds.ImagePositionPatient = _ds(PLACE + number * step * normal)
        ds.ImageOrientationPatient = _ds(cosines)
        ds.PixelSpacing = list(SPACING)
        ds.SliceThickness = step
        if modality == "CT":
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        for name, value in tags.items():
            setattr(ds, name, value)
        made.append(ds)
    return made


def make_enhanced(
    modality="MR", slices=8, bits=12, signed=False, cosines=AXIAL, step=STEP, seed=0, **tags
) -> Dataset:
    """The same as one multi-frame file."""
    values = stored_values(slices, bits, signed, seed)
    normal = np.cross(*np.reshape(cosines, (2, 3)))
    ds = _start(ENHANCED[modality], modality, values[0], bits, signed)
    ds.NumberOfFrames = slices
    ds.PixelData = values.tobytes()
    ds.SeriesInstanceUID, ds.StudyInstanceUID = generate_uid(), generate_uid()
    ds.FrameOfReferenceUID = generate_uid()
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=_ds(cosines))
    shared.PixelMeasuresSequence = _item(PixelSpacing=list(SPACING), SliceThickness=step)
    intercept = -1024 if modality == "CT" else 0
    shared.PixelValueTransformationSequence = _item(
        RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU" if intercept else "US"
    )
    kind = _item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    setattr(shared, f"{modality}ImageFrameTypeSequence", kind)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    each = []
    for number in range(slices):
        own = Dataset()
        own.PlanePositionSequence = _item(ImagePositionPatient=_ds(PLACE + number * step * normal))
        each.append(own)
    ds.PerFrameFunctionalGroupsSequence = Sequence(each)
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def save(series: list[Dataset], folder: Path, name: str = "i") -> Path:
    """Writes a series into a folder, in the order of the list."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(series):
        pydicom.dcmwrite(folder / f"{name}{number:03d}", ds, enforce_file_format=True)
    return folder


def _start(sop_class: str, modality: str, values: np.ndarray, bits: int, signed: bool) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.Modality = modality
    ds.PatientID, ds.PatientName = "4711", "MUSTERMANN^MAX"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * values.itemsize, bits, bits - 1
    ds.PixelRepresentation = int(signed)
    ds.PixelData = values.tobytes()
    ds["PixelData"].VR = "OB" if bits <= 8 else "OW"
    return ds


def _ds(values) -> list[float]:
    return [round(float(value), 10) for value in values]


def _item(**values) -> Sequence:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Sequence([item])


PSEUDONYMS = Pseudonyms(b"s" * 32)
PLANTED = {
    "PatientID": "ZQ4711ID",
    "PatientName": "ZQMUSTERMANN^MAX",
    "PatientBirthDate": "19310417",
    "InstitutionName": "ZQHOSPITAL",
    "ReferringPhysicianName": "ZQDOCTOR",
    "StudyDescription": "ZQSTUDY",
    "SeriesDescription": "ZQSERIES",
    "ProtocolName": "ZQPROTOCOL",
    "AccessionNumber": "ZQACCESSION",
    "StationName": "ZQSTATION",
    "StudyDate": "19870613",
    "IssuerOfPatientID": "ZQISSUER",
    "PatientComments": "ZQCOMMENT",
}
"""Names and dates that no output may hold."""


def indexed(source, tmp_path, suffix=""):
    """The manifest of a folder of series."""
    return index(source, PSEUDONYMS, suffix, converted=tmp_path / "converted")[0]


def compress(path, syntax):
    """Compresses a file in place; gdcm alone encodes lossless JPEG."""
    if syntax != JPEGLosslessSV1:
        ds = pydicom.dcmread(path)
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(path)
        return
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1


def one_volume(source, tmp_path):
    """The only series, as medgan sees it from here on, and its line in the table."""
    found = indexed(source, tmp_path)
    assert [row.status for row in found.series] == ["used"], found.series
    (case,) = found.cases
    return Volume.load(case.image), found.series[0]


def expected(stored, modality="MR"):
    """(slices, rows, columns) as (X, Y, Z)."""
    return stored.transpose(2, 1, 0).astype(np.float32) - (1024 if modality == "CT" else 0)


def assert_exact(volume, voxels, affine):
    """Voxels to the bit, corners to the rounding of a header."""
    np.testing.assert_array_equal(volume.data, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=2e-5)
