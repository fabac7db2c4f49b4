"""The one reader of NIfTI files: header, affine and voxels, checked before anything uses them.

The affine is nibabel's: the s-form where its code is not 0, else the q-form where its code is not
0, else voxels from right to left about the origin. Units become mm.
"""

import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medgan.core.affine import check_affine, check_forms, in_mm
from medgan.core.announced import MEMORY, Announced, Look
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
MIN_SLOPE, MAX_SCALING = 1e-15, 1e30
"""Smallest slope of intensities besides 0, and largest slope or intercept: others overflow, or are
taken for none by SimpleITK (2.2e-16)."""
_DEFLATE = 1032
"""Bytes that a byte of compressed data unpacks to, at most."""
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


def _accept(announced: Announced) -> None:
    """Accepts whatever fits."""


def read_nifti(path: Path, case: str, look: Look = _accept) -> NiftiFile:
    """Reads a 3D NIfTI file to its end.

    Args:
        path: a .nii or .nii.gz file.
        case: the pseudonym under which an error names it.
        look: may refuse the file by what its header announces, before it is unpacked.

    Raises:
        DataError: with a code that says what is wrong, E_SEQUENCE for volumes over time; the text
            never holds the path.
    """
    return _read(path, case, look, sequence=False)


def read_sequence(path: Path, case: str, look: Look = _accept) -> tuple[NiftiFile, Timing]:
    """Reads a 4D NIfTI file whose fourth axis is time.

    Args:
        path: a .nii or .nii.gz file.
        case: the pseudonym under which an error names it.
        look: as of `read_nifti`.

    Returns:
        The file, whose volume has data (X, Y, Z, T); and when its phases were taken.

    Raises:
        DataError: as `read_nifti`; E_DIMENSIONS where it is no sequence.
    """
    file = _read(path, case, look, sequence=True)
    assert file.volume.header is not None
    timing = timing_of(file.volume.header)
    assert timing is not None
    return file, timing


def _read(path: Path, case: str, look: Look, sequence: bool) -> NiftiFile:
    """A file of one volume or, to read a `sequence`, of several; see `read_nifti`."""
    raw = _bytes(path, case)
    zipped = path.name.lower().endswith(".gz")
    header, announced = _look_at(raw, zipped, case)
    look(announced)
    # Unpacked, as voxels of their own kind, scaled, and as float32.
    most = 2 * announced.end + announced.in_memory + 4 * math.prod(announced.shape)
    with MEMORY.taken(most, case):
        plain = _unpack(raw, zipped, announced.end, case)
        shape = _check_header(header, case, sequence)
        data, affine = _decode(plain, header, case)
    notes = check_forms(header, affine, case)
    affine, more = in_mm(affine, header, case)
    check_affine(affine, case)
    volume = Volume(data.reshape(shape), affine, header)
    return NiftiFile(volume, hashlib.sha256(raw).hexdigest(), (*notes, *more))


def _decode(
    plain: bytes, header: "Nifti1Header", case: str
) -> tuple[np.ndarray, np.ndarray]:  # the shape is not yet checked
    """Scaled voxels, float32, and the affine in the header's unit."""
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    image_class = type(header).__name__.replace("Header", "Image")
    try:
        # What overflows becomes infinite, and that is checked.
        with np.errstate(over="ignore", invalid="ignore"):
            image = getattr(nibabel, image_class).from_bytes(plain)
            data = np.asanyarray(image.dataobj).astype(np.float32, copy=False)
            return data, np.array(image.affine, dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise _broken_header(case, str(error)) from None


def _bytes(path: Path, case: str) -> bytes:
    remedy = "check that the file is there and may be read"
    try:
        # A pipe or a device would never end.
        if path.exists() and not path.is_file():
            raise DataError("E_UNREADABLE", case, "not a plain file", remedy)
        size = path.stat().st_size
        if size > MAX_BYTES + MAX_TRAILING:
            raise DataError("E_SIZE", case, "the file is too large", "crop or resample it")
        with MEMORY.taken(size, case):
            return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise DataError("E_UNREADABLE", case, reason.lower(), remedy) from None
    except ValueError:  # a zero byte in its name, which a table may hold
        raise DataError("E_UNREADABLE", case, "has an impossible name", remedy) from None


def _look_at(raw: bytes, zipped: bool, case: str):  # noqa: ANN202 - nibabel header types
    """The header object, and what it announces."""
    if not raw:
        raise DataError("E_EMPTY", case, "the file is empty", "copy it again")
    if zipped and raw[:2] != b"\x1f\x8b":
        raise DataError("E_MAGIC", case, "named .gz but not gzip", "rename or copy it again")
    with _typed(case), _opened(raw, zipped) as stream:
        header = _parse_header(stream.read(NIFTI2_HEADER + 4), case)
        announced = _announced(header, case, len(raw))
        if announced.end > len(raw) * (_DEFLATE if zipped else 1):
            raise EOFError  # it cannot hold so much
        return header, announced


def _unpack(raw: bytes, zipped: bool, expected: int, case: str) -> bytes:
    """The file up to the end of its voxels, never more than its header announces."""
    with _typed(case), _opened(raw, zipped) as stream:
        plain = stream.read(expected) if zipped else raw[:expected]
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
    return plain


def _opened(raw: bytes, zipped: bool) -> "io.BytesIO | gzip.GzipFile":
    return gzip.GzipFile(fileobj=io.BytesIO(raw)) if zipped else io.BytesIO(raw)


@contextmanager
def _typed(case: str) -> Iterator[None]:
    """Errors of what is read as errors of this scan."""
    try:
        yield
    except EOFError:
        raise DataError("E_TRUNCATED", case, "the file ends early", "copy it again") from None
    except (gzip.BadGzipFile, zlib.error):
        raise DataError(
            "E_CHECKSUM", case, "the compressed data is damaged", "copy it again"
        ) from None


def _parse_header(start: bytes, case: str):  # noqa: ANN202 - nibabel header types
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if len(start) < NIFTI1_HEADER and any(size.startswith(start[:4]) for size in _SIZES):
        raise EOFError
    if start[344:348] == b"n+1\0":
        kind, length = Nifti1Header, NIFTI1_HEADER
    elif start[4:8] == b"n+2\0" and start[:4] in _SIZES[2:]:
        kind, length = Nifti2Header, NIFTI2_HEADER
    else:
        raise DataError("E_MAGIC", case, "not a single-file NIfTI", "convert it to .nii or .nii.gz")
    if len(start) < length:
        raise EOFError
    return kind(start[:length], check=False)


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
            header = _parse_header(file.read(NIFTI2_HEADER + 4), case)
            return _announced(header, case, path.stat().st_size).in_memory
    except EOFError:
        raise DataError("E_TRUNCATED", case, "the file ends early", "copy it again") from None
    except (OSError, zlib.error):  # gzip's own is an OSError
        raise DataError("E_UNREADABLE", case, "cannot be read", "copy it again") from None


def _announced(header, case: str, stored: int) -> Announced:  # noqa: ANN001 - nibabel header types
    """What the header of a file of `stored` bytes says of its voxels."""
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
    return Announced(tuple(dims), int(offset) + voxels * item, in_memory, stored)


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
    if 0 < abs(scale[0]) < MIN_SLOPE or any(abs(v) > MAX_SCALING for v in scale):
        raise _broken_header(case, "intensity scaling")
    return tuple(dims)
