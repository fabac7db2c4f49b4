"""A library of shapes of real lesions, read from masks of patients and kept in one small file."""

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.nifti import read_nifti
from medgan.data.layouts.files import scans_below, stem
from medgan.data.layouts.listed import subject_of

SHIPPED = Path(__file__).parent / "lesion_shapes" / "strokes.npz"
"""200 strokes of all sizes; source and licences lie beside the file."""
SPACING = 2.0
"""Of stored shapes, in mm."""
BRAIN = np.array([[-72, -107, -70], [72, 75, 82]], np.float32)
"""Corners of the box around the brain in MNI space, in mm: where masks in that space lie in it."""


@dataclass(frozen=True)
class LesionShape:
    """The mask of one patient.

    Attributes:
        mask: cropped to the lesion, at `SPACING`, axes Right, Anterior, Superior.
        centre: of the crop, as shares of the box around the brain.
    """

    mask: Bool[np.ndarray, "X Y Z"]
    centre: tuple[float, float, float]

    @property
    def millilitres(self) -> float:
        """Volume of the lesion in the patient's brain."""
        return float(self.mask.sum()) * SPACING**3 / 1000


def read_shapes(source: Path, subjects: Collection[str] = ()) -> tuple[LesionShape, ...]:
    """Shapes of a file that `save_shapes` wrote, or of a folder of lesion masks.

    Args:
        source: the file, or a folder of NIfTI masks in MNI space, in any layout; above 0.5 is
            lesion. Empty masks are left out.
        subjects: whose masks to read, as file names begin (`sub-12`); empty is all.

    Raises:
        DataError: E_SHAPES where there is none, and what `read_nifti` raises.
    """
    if source.is_file():
        return _load(source)
    files = [path for path in scans_below(source) if path.is_file()]
    chosen = [path for path in files if not subjects or subject_of(stem(path)) in subjects]
    shapes = [_read(path, f"mask {number}") for number, path in enumerate(chosen)]
    found = tuple(shape for shape in shapes if shape is not None)
    if not found:
        raise _no_shapes("no lesion mask was found")
    return found


def save_shapes(path: Path, shapes: Sequence[LesionShape]) -> None:
    """Writes shapes as one compressed file of a few kilobytes each."""
    written = io.BytesIO()
    np.savez_compressed(
        written,
        sizes=np.array([shape.mask.shape for shape in shapes], np.uint16),
        centres=np.array([shape.centre for shape in shapes], np.float32),
        bits=np.concatenate([np.packbits(shape.mask) for shape in shapes]),
    )
    write_atomic(path, written.getvalue())


def all_sizes(shapes: Sequence[LesionShape], count: int) -> tuple[LesionShape, ...]:
    """At most `count` shapes, as evenly over the logarithm of the volume as there are any."""
    ranked = sorted(shapes, key=lambda shape: shape.millilitres)
    sizes = np.log([shape.millilitres for shape in ranked])
    left = list(range(len(ranked)))
    chosen = []
    for wanted in np.linspace(sizes[0], sizes[-1], min(count, len(ranked))):
        chosen.append(left.pop(int(np.argmin(np.abs(sizes[left] - wanted)))))
    return tuple(ranked[number] for number in sorted(chosen))


def _read(path: Path, name: str) -> LesionShape | None:
    """A mask file as a shape; None where it is empty."""
    volume = read_nifti(path, name).volume.canonical()
    found = volume.data > 0.5
    if not found.any():
        return None
    corners = np.argwhere(found)
    low, high = corners.min(axis=0), corners.max(axis=0)
    crop = found[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    factors = np.array(volume.spacing) / SPACING
    if not np.allclose(factors, 1, atol=0.01):
        edge = [(n, n) for n in np.ceil(1 / factors).astype(int)]
        soft = np.pad(crop.astype(np.float32), edge)
        zoomed = ndimage.zoom(soft, factors, order=1, grid_mode=True, mode="grid-constant")
        crop = np.asarray(zoomed) > 0.5
    middle = volume.affine[:3, :3] @ ((low + high) / 2) + volume.affine[:3, 3]
    x, y, z = ((middle - BRAIN[0]) / (BRAIN[1] - BRAIN[0])).tolist()
    return LesionShape(crop, (x, y, z)) if crop.any() else None


def _load(path: Path) -> tuple[LesionShape, ...]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            sizes, centres, bits = (stored[name] for name in ("sizes", "centres", "bits"))
        lengths = -(-sizes.astype(int).prod(axis=1) // 8)
        parts = np.split(bits, np.cumsum(lengths)[:-1])
        masks = [
            np.unpackbits(part, count=int(np.prod(size))).astype(bool).reshape(size)
            for part, size in zip(parts, sizes.astype(int), strict=True)
        ]
    except (OSError, KeyError, ValueError) as error:
        raise _no_shapes("the file is no library of shapes") from error
    return tuple(
        LesionShape(mask, (float(x), float(y), float(z)))
        for mask, (x, y, z) in zip(masks, centres, strict=True)
    )


def _no_shapes(what: str) -> DataError:
    remedy = "name a folder of NIfTI masks, or a file that save_shapes wrote"
    return DataError("E_SHAPES", "lesion shapes", what, remedy)
