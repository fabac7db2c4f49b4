"""A series as the DICOM objects made from it need it; patient data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medgan.core.errors import DataError
from medgan.data.dicom.files import quiet_pydicom
from medgan.data.dicom.frames import Frame
from medgan.data.dicom.geometry import TO_RAS, Placement

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Those that an object has even when nothing is known."""
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True)
class Source:
    """A series as its objects need it; patient data, for the objects alone.

    Attributes:
        placement: the slices in order.
        header: of the first of them, without pixels.
        case: pseudonym of the series.
    """

    placement: Placement
    header: "Dataset"
    case: str

    @classmethod
    def read(cls, placement: Placement, case: str) -> "Source":
        """Reads the header that stands for a placed series.

        Raises:
            DataError: E_DICOM.
        """
        import pydicom

        try:
            with quiet_pydicom():
                path = placement.frames[0].path
                header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception:  # a damaged file makes pydicom raise nearly anything
            raise DataError("E_DICOM", case, "cannot be read as DICOM", "export it again") from None
        return cls(placement, header, case)


def source_slices(source: Source) -> "list[Dataset]":
    """One data set a slice, as highdicom wants its sources, evened out as the voxels were.

    Every slice counts as a file of its own, under a UID that `_refer` replaces; nobody's name is
    in here that a library could print.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid
    from pydicom.valuerep import DS

    placement, header = source.placement, source.header
    first = placement.frames[0]
    axes = np.linalg.inv(TO_RAS) @ placement.affine[:3]
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
    """A UID for every slice of a source, the same each time, and the slice."""
    from pydicom.uid import generate_uid

    return {
        str(generate_uid(entropy_srcs=[frame.instance, str(frame.number)])): frame
        for frame in source.placement.frames
    }
