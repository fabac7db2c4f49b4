"""Makes the mean brain that gives places their coordinates, from the wheel of nilearn.

pip download --no-deps nilearn
python docs/scripts/mni152.py nilearn-*.whl medgan/data/mni152/mean.npz
"""

import gzip
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
from skimage.measure import block_reduce

NAME = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
EDGE = 4
"""Voxels of 1 mm that become one along each axis; registration sees 5 mm."""


def main(wheel: str, out: str) -> None:
    """Writes the mean at a coarser resolution, as one byte a voxel, with its affine."""
    with zipfile.ZipFile(wheel) as archive:
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(archive.read(NAME)))
    mean = block_reduce(np.asarray(image.dataobj, np.float32), (EDGE, EDGE, EDGE), np.mean)
    fine = np.asarray(image.affine)
    affine = fine @ np.diag([EDGE, EDGE, EDGE, 1.0])
    affine[:3, 3] = (fine @ [*((EDGE - 1) / 2,) * 3, 1.0])[:3]
    np.savez_compressed(Path(out), mean=np.rint(mean).astype(np.uint8), affine=affine)


if __name__ == "__main__":
    main(*sys.argv[1:])
