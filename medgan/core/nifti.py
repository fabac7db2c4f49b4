"""The one reader of NIfTI files: header, affine and voxels, checked before anything uses them.

The affine is nibabel's: the s-form where its code is not 0, else the q-form where its code is not
0, else voxels from right to left about the origin. Units become mm.
"""

import gzip
import hashlib
import io
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medgan.core.errors import DataError, Note
from medgan.core.timing import Timing, timing_of
from medgan.core.volume import Volume

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

MAX_BYTES = 4 * 2**30
"""Bytes of voxels, in the file or in memory, that a header may announce; more is refused before
anything is unpacked."""
MAX_TRAILING = 2**24
"""Bytes that may follow the voxels."""
MAX_SHEAR = 1e-3
"""Largest cosine between two voxel axes that still counts as a right angle."""
MIN_SPACING, MAX_SPACING = 1e-3, 100.0
"""Voxel sizes in mm that a scan can have; metres taken for millimetres are outside."""
_MM = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
"""Spatial units of `xyzt_units` that are not mm: their name, and one of them in mm."""
NIFTI1_HEADER, NIFTI2_HEADER = 348, 540
_SIZES = [n.to_bytes(4, end) for n in (NIFTI1_HEADER, NIFTI2_HEADER) for end in ("little", "big")]


class NiftiFile(NamedTuple):
    """A file that was read.

    Attributes:
        volume: voxel values, float32, header scaling applied; with the affine in mm and the header.
        sha256: hash of the file as it is on disk.
        notes: what was found and used all the same.
    """

    volume: Volume
    sha256: str
    notes: tuple[Note, ...]


def read_nifti(path: Path, case: str) -> NiftiFile:
    """Reads a 3D NIfTI file to its end.

    Args:
        path: a .nii or .nii.gz file.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: with a code that says what is wrong, E_SEQUENCE for volumes over time; the text
            never holds the path.
    """
    return _read(path, case, sequence=False)


def read_sequence(path: Path, case: str) -> tuple[NiftiFile, Timing]:
    """Reads a 4D NIfTI file whose fourth axis is time.

    Args:
        path: a .nii or .nii.gz file.
        case: the pseudonym under which an error names it.

    Returns:
        The file, whose volume has data (X, Y, Z, T); and when its phases were taken.

    Raises:
        DataError: as `read_nifti`; E_DIMENSIONS where it is no sequence.
    """
    file = _read(path, case, sequence=True)
    assert file.volume.header is not None
    timing = timing_of(file.volume.header)
    assert timing is not None
    return file, timing


def _read(path: Path, case: str, sequence: bool) -> NiftiFile:
    """A file of one volume or, to read a `sequence`, of several; see `read_nifti`."""
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    raw = _bytes(path, case)
    header, plain = _unpack(raw, path.name.lower().endswith(".gz"), case)
    shape = _check_header(header, case, sequence)
    image_class = type(header).__name__.replace("Header", "Image")
    try:
        # What overflows becomes infinite, and that is checked.
        with np.errstate(over="ignore", invalid="ignore"):
            image = getattr(nibabel, image_class).from_bytes(plain)
            data = np.asanyarray(image.dataobj).astype(np.float32, copy=False).reshape(shape)
            affine = np.array(image.affine, dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise _broken_header(case, str(error)) from None
    affine, notes = _in_mm(affine, header, case)
    check_affine(affine, case)
    return NiftiFile(Volume(data, affine, header), hashlib.sha256(raw).hexdigest(), notes)


def _in_mm(
    affine: np.ndarray, header: "Nifti1Header", case: str
) -> tuple[np.ndarray, tuple[Note, ...]]:
    """The affine in mm, and what there is to say of it."""
    notes = []
    unit = int(header["xyzt_units"]) & 7
    if unit in _MM:
        name, mm = _MM[unit]
        affine[:3] *= mm
        notes.append(Note("W_UNITS", case, f"its header is in {name}", "they were converted to mm"))
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        notes.append(
            Note(
                "W_ORIENTATION", case, "its header does not say how it is oriented (qform_code and "
                "sform_code are 0)", "left and right are a guess",
            )
        )  # fmt: skip
    return affine, tuple(notes)


def _bytes(path: Path, case: str) -> bytes:
    remedy = "check that the file is there and may be read"
    try:
        # A pipe or a device would never end.
        if path.exists() and not path.is_file():
            raise DataError("E_UNREADABLE", case, "not a plain file", remedy)
        if path.stat().st_size > MAX_BYTES + MAX_TRAILING:
            raise DataError("E_SIZE", case, "the file is too large", "crop or resample it")
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise DataError("E_UNREADABLE", case, reason.lower(), remedy) from None


def _unpack(raw: bytes, zipped: bool, case: str):  # noqa: ANN202 - nibabel header types
    """The header object and the whole unpacked file, never more than the header announces."""
    if not raw:
        raise DataError("E_EMPTY", case, "the file is empty", "copy it again")
    if zipped and raw[:2] != b"\x1f\x8b":
        raise DataError("E_MAGIC", case, "named .gz but not gzip", "rename or copy it again")
    stream = gzip.GzipFile(fileobj=io.BytesIO(raw)) if zipped else io.BytesIO(raw)
    try:
        start = stream.read(NIFTI2_HEADER + 4)
        header = _parse_header(start, case)
        expected = _announced(header, case)[0]
        plain = start + stream.read(max(0, expected - len(start)))
        if len(plain) < expected:
            raise EOFError
        trailing = 0
        while zipped and (rest := stream.read(2**20)):
            # Reading to the end makes gzip verify its checksum.
            trailing += len(rest)
            if trailing > MAX_TRAILING:
                raise DataError(
                    "E_SIZE", case, "more data than the header announces", "copy it again"
                )
    except EOFError:
        raise DataError("E_TRUNCATED", case, "the file ends early", "copy it again") from None
    except (gzip.BadGzipFile, zlib.error):
        raise DataError(
            "E_CHECKSUM", case, "the compressed data is damaged", "copy it again"
        ) from None
    return header, plain


def _parse_header(start: bytes, case: str):  # noqa: ANN202 - nibabel header types
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    if len(start) < NIFTI1_HEADER and any(size.startswith(start[:4]) for size in _SIZES):
        raise EOFError
    if start[344:348] == b"n+1\0":
        kind, length = Nifti1Header, NIFTI1_HEADER
    elif start[4:8] == b"n+2\0" and start[:4] in _SIZES[2:]:
        kind, length = Nifti2Header, NIFTI2_HEADER
    else:
        raise DataError("E_MAGIC", case, "not a single-file NIfTI", "convert it to .nii or .nii.gz")
    try:
        return kind(start[:length], check=False)
    except (HeaderDataError, WrapStructError, ValueError) as error:
        raise _broken_header(case, str(error)) from None


def _broken_header(case: str, what: str) -> DataError:
    return DataError("E_HEADER", case, f"broken header ({what})", "export the scan again")


def voxel_bytes(path: Path, case: str) -> int:
    """Bytes that the voxels of a file take in memory while it is read, by its header alone.

    Args:
        path: a .nii or .nii.gz file.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: E_SIZE, or what is wrong with the header.
    """
    zipped = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            return _announced(_parse_header(file.read(NIFTI2_HEADER + 4), case), case)[1]
    except EOFError:
        raise DataError("E_TRUNCATED", case, "the file ends early", "copy it again") from None
    except (OSError, zlib.error):  # gzip's own is an OSError
        raise DataError("E_UNREADABLE", case, "cannot be read", "copy it again") from None


def _announced(header, case: str) -> tuple[int, int]:  # noqa: ANN001 - nibabel header types
    """Bytes up to the end of the voxels, and bytes of the voxels in memory."""
    from nibabel.spatialimages import HeaderDataError

    try:
        dims = [int(n) for n in header["dim"][1 : int(header["dim"][0]) + 1]]
        item = header.get_data_dtype().itemsize
        offset = float(header["vox_offset"])
    except (HeaderDataError, KeyError, ValueError, OverflowError) as error:
        raise _broken_header(case, str(error)) from None
    if not 1 <= int(header["dim"][0]) <= 7 or any(n < 1 for n in dims):
        raise _broken_header(case, "axis lengths")
    if not np.isfinite(offset) or not header.sizeof_hdr <= offset <= 2**24:
        raise _broken_header(case, "data offset")
    voxels = math.prod(dims)
    scaled = float(header["scl_slope"]) not in (0.0, 1.0)  # first into float64
    in_memory = voxels * max(item, 8 if scaled else 4)
    if in_memory > MAX_BYTES:
        raise DataError(
            "E_SIZE", case, f"{in_memory / 2**30:.0f} GiB of voxels announced",
            "crop or resample it",
        )  # fmt: skip
    return int(offset) + voxels * item, in_memory


def _check_header(header, case: str, sequence: bool) -> tuple[int, ...]:  # noqa: ANN001
    """Array axes of a 3D scan, or of a sequence of such; a single fourth axis is dropped."""
    dims = [int(n) for n in header["dim"][1 : int(header["dim"][0]) + 1]]
    if len(dims) == 4 and dims[-1] == 1:
        dims.pop()
    timing = timing_of(header)
    if timing is not None and not sequence:
        raise DataError(
            "E_SEQUENCE", case, f"a sequence of {timing.phases} volumes, not one",
            "run medgan check on it and give the manifest.json, or split it into 3D files",
        )  # fmt: skip
    if timing is None and (sequence or len(dims) != 3 or 1 in dims):
        flat = len([n for n in dims if n > 1])
        also = "; if the fourth axis is time, set the header's unit of time" if flat == 4 else ""
        raise DataError(
            "E_DIMENSIONS", case, f"{flat}D, not one 3D volume",
            f"split or stack it into 3D files{also}",
        )  # fmt: skip
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        raise DataError("E_DTYPE", case, "voxels are complex or colours", "export grey values")
    zooms = np.asarray(header["pixdim"][1:4], dtype=float)
    if not np.isfinite(zooms).all() or (zooms == 0).any():
        axis = "XYZ"[int(np.argmax(~np.isfinite(zooms) | (zooms == 0)))]
        raise DataError(
            "E_SPACING", case, f"spacing {zooms['XYZ'.index(axis)]:g} mm along {axis}",
            "repair the header or leave the scan out",
        )  # fmt: skip
    scale = [float(header["scl_slope"]), float(header["scl_inter"])]
    if any(np.isinf(v) or (np.isfinite(v) and abs(v) > 1e30) for v in scale):
        raise _broken_header(case, "intensity scaling")
    return tuple(dims)


def check_affine(affine: np.ndarray, case: str) -> None:
    """Refuses voxel axes that a scan cannot have.

    Args:
        affine: shape (4, 4), voxel indices to mm.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: E_AFFINE, E_SPACING.
    """
    if not np.isfinite(affine).all():
        raise DataError("E_AFFINE", case, "affine is not finite", "repair the header")
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if (spacing < MIN_SPACING).any() or (spacing > MAX_SPACING).any():
        raise DataError(
            "E_SPACING", case, f"spacing {' x '.join(f'{s:g}' for s in spacing)} mm",
            "repair the header or leave the scan out",
        )  # fmt: skip
    cosines = (axes / spacing).T @ (axes / spacing) - np.eye(3)
    if np.abs(cosines).max() > MAX_SHEAR:
        raise DataError("E_AFFINE", case, "voxel axes are not at right angles", "resample it")
