"""Synthetic volumes as DICOM: of nobody, marked in every file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int16

from medgan.core.version import __version__
from medgan.core.volume import Volume
from medgan.data.dicom.geometry import TO_RAS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def write_synthetic_series(volume: Volume, folder: Path, modality: str, mark: str) -> None:
    """Writes one file a slice, in a study and a series of its own.

    There is no name, ID, birth date or sex: those elements are there and empty. ImageType begins
    with DERIVED, SECONDARY, the descriptions are `mark`, SyntheticData is YES.

    Args:
        volume: HU for CT; values are rounded to whole numbers. Axes nearly along RAS+.
        folder: receives `slice-0001.dcm` and so on, lowest first.
        modality: MR or CT.
        mark: at most 64 characters.

    Raises:
        EnvironmentFailure: E_DISK.

    Reference: DICOM PS3.3 A.3 (CT), A.4 (MR), C.12.1 (SyntheticData).
    """
    from io import BytesIO

    from pydicom.uid import generate_uid

    from medgan.core.files import write_atomic

    pixels, axes = _stored(volume)
    uids = {
        name: generate_uid()
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    }
    for number, values in enumerate(pixels, start=1):
        one = _slice(values, axes, number, modality, mark)
        for name, uid in uids.items():
            setattr(one, name, uid)
        file = BytesIO()
        one.save_as(file, enforce_file_format=True)
        write_atomic(folder / f"slice-{number:04d}.dcm", file.getvalue())


def _stored(volume: Volume) -> tuple[Int16[np.ndarray, "Z Y X"], Float[np.ndarray, "3 4"]]:
    """Slices as a viewer expects them, the patient's right and front first, and LPS axes."""
    turned = volume.affine @ np.array(
        [[-1, 0, 0, volume.data.shape[0] - 1], [0, -1, 0, volume.data.shape[1] - 1],
         [0, 0, 1, 0], [0, 0, 0, 1]]
    )  # fmt: skip
    limits = np.iinfo(np.int16)
    whole = np.rint(volume.data[::-1, ::-1].transpose(2, 1, 0)).clip(limits.min, limits.max)
    return np.ascontiguousarray(whole, np.int16), TO_RAS @ turned[:3]


def _slice(
    values: Int16[np.ndarray, "Y X"], axes: Float[np.ndarray, "3 4"], number: int, modality: str,
    mark: str,
) -> "Dataset":  # fmt: skip
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
    from pydicom.valuerep import DS

    def decimals(numbers: np.ndarray) -> list[Any]:
        return [DS(float(value), auto_format=True) for value in numbers]

    spacing = np.linalg.norm(axes[:, :3], axis=0)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SyntheticData = "YES"
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER", "SYNTHETIC"]
    ds.Modality = modality
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID",
                 "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
                 "AcquisitionNumber", "PositionReferenceIndicator", "PatientPosition",
                 "Laterality"):  # fmt: skip
        setattr(ds, name, None)
    ds.StudyDescription = ds.SeriesDescription = ds.ImageComments = mark
    ds.DerivationDescription = "Drawn by a generative model; no scan of a person"
    ds.Manufacturer = ds.ManufacturerModelName = "medgan"
    ds.SoftwareVersions = __version__
    maker = Dataset()
    maker.Manufacturer = maker.ManufacturerModelName = "medgan"
    maker.SoftwareVersions = __version__
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    maker.PurposeOfReferenceCodeSequence = Sequence([purpose])
    ds.ContributingEquipmentSequence = Sequence([maker])
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.ImagePositionPatient = decimals(axes[:, 3] + (number - 1) * axes[:, 2])
    ds.ImageOrientationPatient = decimals((axes[:, :2] / spacing[:2]).T.ravel())
    ds.PixelSpacing = decimals(spacing[[1, 0]])
    ds.SliceThickness = DS(float(spacing[2]), auto_format=True)
    if modality == "CT":
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
        ds.KVP = None
    else:
        ds.ScanningSequence, ds.SequenceVariant = "RM", "NONE"
        ds.SpacingBetweenSlices = ds.SliceThickness
        for name in ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
                     "EchoTrainLength"):  # fmt: skip
            setattr(ds, name, None)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelData = values.astype("<i2").tobytes()
    return ds
