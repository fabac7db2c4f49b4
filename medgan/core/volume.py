"""A scan in memory: voxels and the affine that places them in the world."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from medgan.core.files import disk_failure

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

AIR = -0.9
"""Below this, a prepared volume is air or next to nothing."""


@dataclass(frozen=True)
class Volume:
    """Voxels on a grid.

    Attributes:
        data: shape (X, Y, Z) of a scan or a label map, in the order of the file.
        affine: shape (4, 4), voxel indices to world mm (RAS+).
    """

    data: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along the three array axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @classmethod
    def load(cls, path: str | Path) -> "Volume":
        """Reads a NIfTI file as float32; header scaling applied, axes as stored.

        Single axes after the third are dropped.
        """
        import nibabel

        image = nibabel.load(path)  # pyright: ignore[reportPrivateImportUsage]
        data = np.asanyarray(image.dataobj, dtype=np.float32)  # pyright: ignore
        if data.size == np.prod(data.shape[:3]):
            data = data.reshape(data.shape[:3])
        return cls(data, np.asarray(image.affine))  # pyright: ignore

    def canonical(self) -> "Volume":
        """The same voxels with axes closest to Right, Anterior, Superior; nothing resampled."""
        from nibabel.funcs import as_closest_canonical
        from nibabel.nifti1 import Nifti1Image

        image = as_closest_canonical(Nifti1Image(np.squeeze(self.data), self.affine))
        return Volume(np.asanyarray(image.dataobj), np.asarray(image.affine))

    def save(
        self, path: str | Path, like: "Nifti1Header | None" = None, description: str = ""
    ) -> None:
        """Writes a NIfTI file, under a temporary name first.

        Args:
            path: ends in .nii or .nii.gz.
            like: header whose affine, codes and units are kept to the bit; intensity scaling,
                description and every other text of it are not.
            description: at most 79 characters of the header's `descrip`.
        """
        import nibabel
        from nibabel.nifti1 import Nifti1Image

        path = Path(path)
        image = Nifti1Image(self.data, self.affine)
        header = image.header
        if like is None:
            image.set_sform(self.affine, code=1)
            image.set_qform(self.affine, code=1)
            header.set_xyzt_units("mm")
        else:
            for field in _GEOMETRY:
                header[field] = like[field]
        header["descrip"] = description.encode("ascii", "replace")[:79]
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


_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def depth(volume: Float[np.ndarray, "X Y Z"]) -> Float[np.ndarray, "X Y Z"]:
    """How far each voxel of a prepared volume lies from air, in voxels.

    Small holes do not count as air.
    """
    from scipy import ndimage

    tissue = ndimage.gaussian_filter((volume > AIR).astype(np.float32), 1.5) > 0.5
    if tissue.all():
        return np.full(volume.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(tissue))
