"""A scan in memory: voxels and the affine from voxel indices to mm."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from medgan.core.files import disk_failure

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header, Nifti1Image

AIR = -0.9
"""Below this, a prepared volume is air or next to nothing."""


SYNTHETIC = "SYNTHETIC (medgan)"
"""How the description of a file begins that holds no patient's scan, or one that was changed."""


@dataclass(frozen=True)
class Volume:
    """Voxels on a grid.

    Attributes:
        data: shape (X, Y, Z) of a scan or a label map, in the order of the file.
        affine: shape (4, 4), voxel indices to world mm (RAS+).
        header: of the file it was read from; both forms of its affine, their codes and its units
            are kept to the bit in what is saved on the same grid.
    """

    data: np.ndarray
    affine: np.ndarray
    header: "Nifti1Header | None" = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three array axes."""
        x, y, z = self.data.shape[:3]
        return x, y, z

    @property
    def is_synthetic(self) -> bool:
        """Whether the file it was read from says that it is synthetic."""
        if self.header is None:
            return False
        return SYNTHETIC.encode() in bytes(self.header["descrip"].tobytes())

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along the three array axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def field_of_view(self) -> Float[np.ndarray, "3"]:
        """Extent in mm along Right, Anterior and Superior, whatever the order of the axes."""
        return field_of_view(self.affine, self.data.shape)

    @classmethod
    def load(cls, path: str | Path) -> "Volume":
        """Reads a NIfTI file as float32; header scaling applied, axes as stored.

        Raises:
            DataError: when the file is broken or holds no 3D volume.
        """
        from medgan.core.nifti import read_nifti

        return read_nifti(Path(path), "the volume").volume

    def like(self, data: np.ndarray) -> "Volume":
        """Other voxels (X, Y, Z) on the grid of this volume."""
        return Volume(data, self.affine, self.header)

    def canonical(self) -> "Volume":
        """The same voxels with axes closest to Right, Anterior, Superior; nothing resampled."""
        from nibabel.funcs import as_closest_canonical
        from nibabel.nifti1 import Nifti1Image

        image = as_closest_canonical(Nifti1Image(np.squeeze(self.data), self.affine))
        return Volume(np.asanyarray(image.dataobj), np.asarray(image.affine))

    def from_canonical(self, data: np.ndarray) -> "Volume":
        """Voxels in the order of `canonical()` on the grid of this volume; nothing resampled."""
        from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

        own = io_orientation(self.affine)
        plain = io_orientation(np.eye(4))
        return self.like(np.ascontiguousarray(apply_orientation(data, ornt_transform(plain, own))))

    def save(self, path: str | Path, description: str = "") -> None:
        """Writes a NIfTI file, under a temporary name first.

        Geometry is that of the header, if there is one; its texts and intensity scaling are not
        written.

        Args:
            path: ends in .nii or .nii.gz.
            description: at most 79 characters of the header's `descrip`.
        """
        _write(self.image(), Path(path), description)

    def image(self) -> "Nifti1Image":
        """As nibabel's image, without the texts of the header."""
        from nibabel.nifti1 import Nifti1Image
        from nibabel.nifti2 import Nifti2Header, Nifti2Image

        if self.header is None:
            image = Nifti1Image(self.data, self.affine)
            image.set_sform(self.affine, code=1)
            image.set_qform(self.affine, code=1)
            image.header.set_xyzt_units("mm")
            return image
        kind = Nifti2Image if isinstance(self.header, Nifti2Header) else Nifti1Image
        data = self.data
        if int(self.header["dim"][0]) > 3:  # a single fourth axis
            data = data[..., None]
        image = kind(data, self.header.get_best_affine())
        for name in _GEOMETRY:
            image.header[name] = self.header[name]
        return image


def save_frames(
    frames: Sequence[Volume],
    path: str | Path,
    first: float = 0.0,
    step: float = 1.0,
    description: str = "",
) -> None:
    """Writes volumes on one grid as a 4D NIfTI file, under a temporary name first.

    NIfTI has no unit for years or millilitres: the unit of the fourth axis is the second, and its
    numbers are those of the quantity that the frames go along.

    Args:
        frames: one or more; the geometry of the first is that of the file.
        path: ends in .nii or .nii.gz.
        first: place of the first frame on the fourth axis, `toffset` of the header.
        step: from frame to frame, `pixdim[4]`; above 0.
        description: at most 79 characters of the header's `descrip`.
    """
    one = frames[0].image()
    image = type(one)(np.stack([frame.data for frame in frames], axis=-1), one.affine)
    for name in _GEOMETRY:
        image.header[name] = one.header[name]
    image.header["pixdim"][4] = step
    image.header["toffset"] = first
    image.header["xyzt_units"] = int(one.header["xyzt_units"]) & 7 | _SECONDS
    _write(image, Path(path), description)


def _write(image: "Nifti1Image", path: Path, description: str) -> None:
    import nibabel

    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, temporary)  # pyright: ignore[reportPrivateImportUsage]
        temporary.replace(path)
    except OSError as error:
        raise disk_failure(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


_SECONDS = 8
"""NIfTI's code, beside that of the unit of space."""
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def field_of_view(affine: np.ndarray, shape: Sequence[int]) -> Float[np.ndarray, "3"]:
    """Extent in mm along Right, Anterior and Superior of a grid, whatever the order of its axes.

    Args:
        affine: shape (4, 4), voxel indices to mm.
        shape: voxels along the three array axes.
    """
    from nibabel.orientations import io_orientation

    extent = np.empty(3)
    order = io_orientation(affine)[:, 0].astype(int)
    extent[order] = np.linalg.norm(affine[:3, :3], axis=0) * np.asarray(shape)[:3]
    return extent


def depth(volume: Float[np.ndarray, "X Y Z"]) -> Float[np.ndarray, "X Y Z"]:
    """How far each voxel of a prepared volume lies from air, in voxels.

    Small holes do not count as air.
    """
    from scipy import ndimage

    tissue = ndimage.gaussian_filter((volume > AIR).astype(np.float32), 1.5) > 0.5
    if tissue.all():
        return np.full(volume.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(tissue))


def bounds(mask: Bool[np.ndarray, "X Y Z"]) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask; empty where the mask is."""
    x, y, z = (np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    if not len(x):
        return slice(0, 0), slice(0, 0), slice(0, 0)
    return slice(x[0], x[-1] + 1), slice(y[0], y[-1] + 1), slice(z[0], z[-1] + 1)
