"""Frames become series; what is no scan, a localizer or a reformat is ignored."""

import filecmp
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from medgan.core.errors import DataError
from medgan.data.dicom.frames import Frame

IGNORED = frozenset({"E_OBJECT", "E_MODALITY", "E_LOCALIZER", "E_DERIVED"})
"""Codes of what is no fault: a study is full of files that are not scans to learn from."""
SAME_DIRECTION = 5e-3
"""Largest difference of a direction cosine within one series; headers round them."""
ALLOCATED = (8, 16, 32)
"""Bits of a stored value."""
SCOUTS = {"LOCALIZER", "SCOUT"}
REFORMATS = {
    *("ADC", "CPR", "FA", "MAXIMUM INTENSITY PROJECTION", "MINIP", "MIP", "MPR", "PHASE"),
    *("IMAGINARY", "P", "PHASE MAP", "PROJECTION IMAGE", "RESAMPLED", "SCREEN SAVE", "SUBTRACT"),
    *("T1MAP", "T2MAP", "TRACEW", "VELOCITY", "VELOCITY MAP", "VRT"),
}  # fmt: skip
"""Terms of ImageType for images that are computed from scans or show no anatomy."""


@dataclass(frozen=True)
class Series:
    """Frames of one SeriesInstanceUID, direction and image type.

    Attributes:
        frames: in the order in which they were found.
        name: for its pseudonym; secret.
        subject: likewise, from PatientID and its issuer; the study where there is no ID.
        copies: files that were left out as identical to others.
        scout: whether it is one of three planes across each other under one SeriesInstanceUID.
        damaged: whether a file in the same folder is damaged, and might belong to it.
    """

    frames: tuple[Frame, ...]
    name: str
    subject: str
    copies: int = 0
    scout: bool = False
    damaged: bool = False

    @property
    def first(self) -> Frame:
        """The first frame, for what all frames have in common."""
        return self.frames[0]

    @property
    def extent(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Columns, rows and slices, and the spacing in the plane, as far as headers say."""
        first = self.first
        if not first.image:
            return (), ()
        return (first.columns, first.rows, len(self.frames)), (first.pixel_spacing or ())[::-1]


def group_series(frames: Iterable[Frame]) -> list[Series]:
    """Series, by UID, image type and direction.

    Exact copies of a file, as overlapping exports leave them, count once.
    """
    groups: dict[tuple[str, ...], list[list[Frame]]] = {}
    for frame in frames:
        same_kind = groups.setdefault(
            (frame.series, frame.modality, str(frame.image), *frame.kind), []
        )
        alike = next((group for group in same_kind if _same_direction(group[0], frame)), None)
        if alike is None:
            same_kind.append([frame])
        else:
            alike.append(frame)
    found = [_series(group) for same_kind in groups.values() for group in same_kind]
    planes = defaultdict(set)
    for one in found:
        planes[_scan_of(one)].add(_plane(one))
    return [replace(one, scout=planes[_scan_of(one)] >= {0, 1, 2}) for one in found]


def _scan_of(series: Series) -> tuple[str, str, bool]:
    first = series.first
    return first.series, first.modality, first.image


def _plane(series: Series) -> int | None:
    """Whether slices are more sagittal (0), coronal (1) or axial (2)."""
    cosines = series.first.cosines
    if cosines is None:
        return None
    return int(np.argmax(np.abs(np.cross(cosines[:3], cosines[3:]))))


def _same_direction(a: Frame, b: Frame) -> bool:
    if a.cosines is None or b.cosines is None:
        # Otherwise the series would lack the slice.
        return True
    return max(abs(p - q) for p, q in zip(a.cosines, b.cosines, strict=True)) <= SAME_DIRECTION


def _series(group: list[Frame]) -> Series:
    kept, copies = _without_copies(group)
    # The order of files may differ between sites, and directions are rounded differently.
    first = min(kept, key=lambda frame: (frame.instance, frame.number))
    direction = [round(value, 2) + 0.0 for value in first.cosines or ()]
    name = "\n".join((first.series, first.modality, str(first.image), *first.kind, str(direction)))
    return Series(tuple(kept), name, first.patient or first.study or first.series, copies)


def _without_copies(group: list[Frame]) -> tuple[list[Frame], int]:
    """One of each set of files with the same content."""
    seen: dict[tuple[str, int], list[Frame]] = {}
    kept, copies = [], 0
    for frame in group:
        same = seen.setdefault((frame.instance, frame.number), [])
        if frame.instance and any(_same_content(frame, other) for other in same):
            copies += 1
        else:
            same.append(frame)
            kept.append(frame)
    return kept, copies


def _same_content(a: Frame, b: Frame) -> bool:
    try:
        return filecmp.cmp(a.path, b.path, shallow=False)
    except OSError:
        return False


def check_wanted(series: Series, case: str, modality: str = "") -> None:
    """Whether a series is of the kind that medgan reads; what is not is ignored.

    Args:
        series: any.
        case: its pseudonym.
        modality: MR or CT where only that one is wanted.

    Raises:
        DataError: E_OBJECT, E_MODALITY, E_LOCALIZER, E_DERIVED.
    """
    first, terms = series.first, set(series.first.kind)
    if not first.image and first.modality in ("MR", "CT"):
        raise DataError(
            "E_OBJECT",
            case,
            "no scan: a screen shot, spectrum, raw data or the like",
            "nothing to do",
        )
    if not first.image:
        raise DataError(
            "E_OBJECT", case, f"modality {first.modality}, not MR or CT", "nothing to do"
        )
    if modality and first.modality != modality:
        raise DataError("E_MODALITY", case, f"not {modality}", "change data.suffix to have it")
    if terms & SCOUTS:
        raise DataError("E_LOCALIZER", case, "a localizer", "nothing to do")
    if series.scout:
        raise DataError(
            "E_LOCALIZER", case, "three planes under one UID, as localizers have them",
            "nothing to do; or convert it to NIfTI if it is what you want",
        )  # fmt: skip
    if first.kind[:1] == ("DERIVED",) or terms & REFORMATS:
        raise DataError(
            "E_DERIVED", case, "computed from other images",
            "give the original; or convert it to NIfTI if it is what you want",
        )  # fmt: skip


def check_consistent(series: Series, case: str) -> None:
    """Whether the slices can be one scan of one patient, with grey values as pixels.

    Raises:
        DataError: E_PATIENT, E_SLICE_DUPLICATE, E_BURNED_IN, E_MOSAIC, E_FRAMES, E_HEADER,
            E_DTYPE, E_MATRIX, E_FRAME_OF_REFERENCE, E_RESCALE.
    """
    frames, first = series.frames, series.first
    if len({frame.patient for frame in frames}) > 1:
        raise DataError(
            "E_PATIENT", case, "slices of more than one patient", "export the series again"
        )
    if len({(f.instance, f.number) for f in frames if f.instance}) < sum(
        bool(f.instance) for f in frames
    ):
        raise DataError(
            "E_SLICE_DUPLICATE", case, "the same image more than once, in different versions",
            "leave out all but one version",
        )  # fmt: skip
    if any(frame.burned_in for frame in frames):
        raise DataError(
            "E_BURNED_IN", case, "text is burned into the image (BurnedInAnnotation)",
            "leave it out, or remove the text and the mark",
        )  # fmt: skip
    if "MOSAIC" in first.kind:
        raise DataError(
            "E_MOSAIC", case, "slices are tiled into one image", "convert it with dcm2niix"
        )
    if any(f.frames > 1 and (not f.enhanced or f.position is None) for f in frames):
        raise DataError(
            "E_FRAMES", case, "frames of a multi-frame file have no positions of their own",
            "export it as single slices or as enhanced MR or CT",
        )  # fmt: skip
    if not all(f.rows and f.columns and f.allocated and f.stored and f.photometric for f in frames):
        raise DataError(
            "E_HEADER", case, "the header of a slice does not say how its pixels are stored",
            "export the series again",
        )  # fmt: skip
    grey = {"MONOCHROME1", "MONOCHROME2"}
    if any(frame.samples != 1 or frame.photometric not in grey for frame in frames):
        raise DataError("E_DTYPE", case, "voxels are colours", "export grey values")
    if len({(frame.rows, frame.columns) for frame in frames}) > 1:
        raise DataError(
            "E_MATRIX", case, "slices have different matrices", "export the series again, in parts"
        )
    if len({frame.reference for frame in frames}) > 1:
        raise DataError(
            "E_FRAME_OF_REFERENCE", case, "slices have different frames of reference",
            "export the series again, in parts",
        )  # fmt: skip
    _check_bits(series, case)
    _check_rescaling(series, case)


def _check_bits(series: Series, case: str) -> None:
    for frame in series.frames:
        if frame.allocated not in ALLOCATED or not 0 < frame.stored <= frame.allocated:
            raise DataError(
                "E_HEADER", case, f"{frame.stored} of {frame.allocated} bits a voxel",
                "export the series again",
            )  # fmt: skip
        if frame.high_bit != frame.stored - 1:  # the standard forbids it; pydicom cuts it off
            raise DataError(
                "E_HEADER", case, "voxel values are not stored in the lowest bits",
                "export the series again",
            )  # fmt: skip


def _check_rescaling(series: Series, case: str) -> None:
    for frame in series.frames:
        if frame.slope is None or frame.intercept is None or frame.slope == 0:
            raise DataError(
                "E_RESCALE", case, "a slice has no valid rescale slope and intercept",
                "export the original series",
            )  # fmt: skip
        if frame.modality == "CT" and frame.unit not in ("", "HU", "US"):
            raise DataError("E_RESCALE", case, "values are not in HU", "export the series in HU")
        if frame.unit == "LUT":
            raise DataError(
                "E_RESCALE", case, "values go through a lookup table", "export the original series"
            )
    if series.first.modality == "CT" and min(map(_lowest, series.frames)) >= 0:
        raise DataError(
            "E_RESCALE", case, "its values cannot be HU: none could be below 0",
            "export the original series",
        )  # fmt: skip


def _lowest(frame: Frame) -> float:
    """The lowest value that the bits of a slice can hold, rescaled."""
    count = 2**frame.stored
    ends = (-count // 2, count // 2 - 1) if frame.signed else (0, count - 1)
    assert frame.slope is not None
    assert frame.intercept is not None
    return min(end * frame.slope + frame.intercept for end in ends)
