"""What a scan's header says of its geometry: refused where two readers could understand two things.

nibabel takes the s-form where its code is not 0, else the q-form, and the affine is nibabel's.
SimpleITK takes voxel sizes from `pixdim`, and the q-form beside an s-form whose code is above 1.
"""

from typing import TYPE_CHECKING

import numpy as np

from medgan.core.errors import DataError, Note

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

MAX_SHEAR = 1e-3
"""Largest cosine between two voxel axes that still counts as a right angle."""
MIN_SPACING, MAX_SPACING = 1e-3, 100.0
"""Voxel sizes in mm that a scan can have; metres taken for millimetres are outside."""
MAX_ORIGIN = 1e6
"""Distance in mm of the first voxel from the origin that a scan can have."""
MAX_ROUNDING = 1e-3
"""Relative difference between `pixdim` and the s-form that is a rounding: three decimals."""
MAX_APART = 0.1
"""Distance of corners by q-form and s-form, in voxels, that is a rounding."""
_SHEAR_ALONE = 9e-5
"""Largest cosine between axes of an s-form that SimpleITK reads without a q-form: its limit is
1e-4."""
_MM = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
"""Spatial units of `xyzt_units` that are not mm: their name, and one of them in mm."""
_LAST_CODE = 5
"""The last `NIFTI_XFORM_*`, template other than Talairach and MNI."""


@np.errstate(over="ignore", invalid="ignore")  # what overflows is infinite, and that is refused
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
    if np.abs(affine[:3, 3]).max() > MAX_ORIGIN:
        raise DataError("E_AFFINE", case, "it lies a kilometre away", "repair the header")
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


@np.errstate(over="ignore", invalid="ignore")
def check_forms(header: "Nifti1Header", affine: np.ndarray, case: str) -> tuple[Note, ...]:
    """Refuses a header that contradicts itself in what the voxels mean in space.

    Args:
        header: as it is in the file.
        affine: shape (4, 4), nibabel's, in the header's unit.
        case: the pseudonym under which an error or a note names it.

    Returns:
        W_TWO_FORMS where q-form and s-form differ in place or by a slight turn alone, as after a
        registration: nothing that is computed depends on them, and maps get both.

    Raises:
        DataError: E_HEADER, E_SPACING, E_AFFINE.
    """
    from nibabel.orientations import io_orientation
    from nibabel.spatialimages import HeaderDataError

    q_code, s_code = int(header["qform_code"]), int(header["sform_code"])
    handed = float(header["pixdim"][0])
    remedy = "export the scan again"
    if not (0 <= q_code <= _LAST_CODE and 0 <= s_code <= _LAST_CODE and handed in (-1, 0, 1)):
        raise DataError("E_HEADER", case, "broken header (codes of its orientation)", remedy)
    zooms = np.asarray(header["pixdim"][1:4], float)
    if (zooms < 0).any():
        raise DataError("E_HEADER", case, "broken header (negative voxel sizes)", remedy)
    if not s_code:
        return ()
    if not np.allclose(np.linalg.norm(affine[:3, :3], axis=0), zooms, rtol=MAX_ROUNDING, atol=0):
        raise DataError(
            "E_SPACING", case, "its header gives two voxel sizes, in pixdim and in the s-form",
            "find out which is right and repair the header",
        )  # fmt: skip
    if not q_code:
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        if np.abs(directions @ directions.T - np.eye(3)).max() > _SHEAR_ALONE:
            raise DataError(
                "E_AFFINE", case, "no q-form, and axes of its s-form are not at right angles",
                "resample it, or write a q-form too",
            )  # fmt: skip
        return ()
    try:
        other = np.array(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        raise DataError("E_AFFINE", case, "its q-form is no rotation", remedy) from None
    last = np.maximum([int(n) - 1 for n in header["dim"][1:4]], 1)
    corners = np.array([[*(corner * last), 1] for corner in np.ndindex(2, 2, 2)])
    apart = np.linalg.norm((corners @ (affine - other).T)[:, :3], axis=1).max()
    if apart <= MAX_APART * zooms.min():
        return ()
    if not np.isfinite(other).all() or (io_orientation(other) != io_orientation(affine)).any():
        raise DataError(
            "E_AFFINE", case, "its q-form and its s-form give different orientations",
            "find out which is right and write it into both",
        )  # fmt: skip
    note = Note(
        "W_TWO_FORMS", case, "its q-form and its s-form differ", "the s-form is used, by which "
        "SimpleITK may not go",
    )  # fmt: skip
    return (note,)


def in_mm(
    affine: np.ndarray, header: "Nifti1Header", case: str
) -> tuple[np.ndarray, tuple[Note, ...]]:
    """The affine in mm, and what there is to say of it.

    Args:
        affine: shape (4, 4), in the header's unit; changed in place.
        header: as it is in the file.
        case: the pseudonym under which a note names it.
    """
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
