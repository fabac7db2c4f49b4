"""Voxels of sorted slices: decoded, without unused bits, rescaled."""

import math
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from medgan.core.announced import refuse_bomb
from medgan.core.errors import DataError
from medgan.core.nifti import MAX_BYTES, MAX_TRAILING
from medgan.data.dicom.decoder import Decoder, check_syntax
from medgan.data.dicom.frames import Frame


def read_voxels(
    frames: tuple[Frame, ...], decoder: Decoder, case: str
) -> tuple[Float32[np.ndarray, "X Y Z"], tuple[str, ...]]:
    """Stacks the slices of a series.

    Args:
        frames: in order.
        decoder: reads stored values.
        case: pseudonym of the series.

    Returns:
        HU for CT, the scanner's values for MR, shape (columns, rows, slices); and notes on
        what was changed.

    Raises:
        DataError: E_SIZE, E_SYNTAX, E_PIXELS, E_TRUNCATED, E_UNREADABLE.
    """
    first = frames[0]
    shape = (first.columns, first.rows, len(frames))
    if np.prod(shape, dtype=float) * 4 > MAX_BYTES:
        raise DataError("E_SIZE", case, "too many voxels", "crop or resample it")
    size = sum(map(_bytes, {frame.path for frame in frames}))
    refuse_bomb(4 * math.prod(shape), size, case)
    for frame in frames:
        check_syntax(frame.syntax, case)
    voxels = np.empty(shape, np.float32)
    files: dict[object, list[int]] = {}
    for position, frame in enumerate(frames):
        files.setdefault(frame.path, []).append(position)
    for positions in files.values():
        positions.sort(key=lambda position: frames[position].number)
        some = frames[positions[0]]
        numbers = [frames[position].number for position in positions]
        if _bytes(some.path) > MAX_BYTES + MAX_TRAILING:
            raise DataError("E_SIZE", case, "a file is too large", "crop or resample it")
        stored = decoder.read(some.path, some.syntax, numbers, case)
        if stored.shape != (len(positions), first.rows, first.columns):
            raise DataError(
                "E_PIXELS", case, "the pixels of a slice are not as its header says",
                "export the series again",
            )  # fmt: skip
        for position, values in zip(positions, stored, strict=True):
            with np.errstate(over="ignore"):  # what overflows becomes infinite; that is checked
                voxels[:, :, position] = rescaled(values, frames[position]).T
    return voxels, _notes(frames)


def _bytes(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0  # it is missing, which the decoder reports


def rescaled(stored: np.ndarray, frame: Frame) -> np.ndarray:
    """Stored values as HU or the scanner's values, float64.

    Bits beyond BitsStored, which may hold overlays, are dropped. With MONOCHROME1, low values are
    displayed bright. MR has no scale of its own, so its values are inverted within their bits; HU
    are defined by the rescaling alone and stay.
    """
    values = stored.astype(np.int64)
    values &= (1 << frame.stored) - 1
    if frame.signed:
        sign = 1 << (frame.stored - 1)
        values = (values ^ sign) - sign
    if _is_inverted(frame):
        values = (-1 if frame.signed else (1 << frame.stored) - 1) - values
    assert frame.slope is not None
    assert frame.intercept is not None
    return values * frame.slope + frame.intercept


def _is_inverted(frame: Frame) -> bool:
    return frame.photometric == "MONOCHROME1" and frame.modality != "CT"


def _notes(frames: tuple[Frame, ...]) -> tuple[str, ...]:
    if not any(frame.photometric == "MONOCHROME1" for frame in frames):
        return ()
    if any(_is_inverted(frame) for frame in frames):
        return ("MONOCHROME1: intensities inverted",)
    return ("MONOCHROME1: HU kept as they are",)
