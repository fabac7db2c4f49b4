"""The series that DICOM objects are made from; it holds patient data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medgan.core.errors import DataError
from medgan.data.dicom.files import quiet_pydicom
from medgan.data.dicom.frames import Frame
from medgan.data.dicom.geometry import TO_RAS, SliceStack

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Elements that every object has, even if empty."""
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True)
class Source:
    """A series with patient data, which only objects for the PACS may contain.

    Attributes:
        stack: the slices in order.
        header: of the first of them, without pixels.
        case: pseudonym of the series.
        seed: what the UIDs of its objects are made from; empty makes new ones each time.
    """

    stack: SliceStack
    header: "Dataset"
    case: str
    seed: str = ""

    @classmethod
    def read(cls, stack: SliceStack, case: str, seed: str = "") -> "Source":
        """Reads the header of the first slice.

        Raises:
            DataError: E_DICOM.
        """
        import pydicom

        try:
            with quiet_pydicom():
                path = stack.frames[0].path
                header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception:  # a damaged file makes pydicom raise nearly anything
            raise DataError("E_DICOM", case, "cannot be read as DICOM", "export it again") from None
        return cls(stack, header, case, seed)


def source_slices(source: Source) -> "list[Dataset]":
    """A data set for each slice, as highdicom needs them, at the corrected positions.

    Each slice has a UID of its own, which `refer` replaces. They hold no names of patients, which
    a library might print.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid
    from pydicom.valuerep import DS

    stack, header = source.stack, source.header
    first = stack.frames[0]
    axes = np.linalg.inv(TO_RAS) @ stack.affine[:3]
    spacing = np.linalg.norm(axes[:, :3], axis=0)
    cosines = (axes[:, :2] / spacing[:2]).T.ravel()
    base = Dataset()
    base.SOPClassUID = CTImageStorage if first.modality == "CT" else MRImageStorage
    base.StudyInstanceUID = header.StudyInstanceUID
    base.SeriesInstanceUID = first.series
    base.Modality = first.modality
    for name in REQUIRED:
        setattr(base, name, None)
    base.FrameOfReferenceUID = first.reference or generate_uid()
    base.PositionReferenceIndicator = None
    base.Rows, base.Columns = first.rows, first.columns
    base.ImageOrientationPatient = [DS(value, auto_format=True) for value in cosines]
    base.PixelSpacing = [DS(spacing[n], auto_format=True) for n in (1, 0)]
    base.SliceThickness = DS(first.thickness or spacing[2], auto_format=True)
    base.SpacingBetweenSlices = DS(spacing[2], auto_format=True)
    for name in _LOSSY:
        if name in header:
            base[name] = header[name]
    made = []
    for number, uid in enumerate(slice_uids(source)):
        one = Dataset()
        one.update(base)
        one.SOPInstanceUID = uid
        position = axes[:, 3] + number * axes[:, 2]
        one.ImagePositionPatient = [DS(value, auto_format=True) for value in position]
        made.append(one)
    return made


def slice_uids(source: Source) -> "dict[str, Frame]":
    """The slices of a source by UIDs that are the same each time."""
    from pydicom.uid import generate_uid

    return {
        str(generate_uid(entropy_srcs=[frame.instance, str(frame.number)])): frame
        for frame in source.stack.frames
    }
