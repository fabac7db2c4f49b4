"""Writes a raw head that lies tilted, with thick slices, scores it, and takes pictures of its page.

python docs/scripts/head_page.py MODEL dicom/head_mr_hfs runs/head docs/images

The model needs data.brain=deepbet and data.align. Needs Chromium and its driver.
"""

import sys
from pathlib import Path

import numpy as np
from report_pages import save_screenshots
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.app.pipeline import run_pipeline
from medgan.core.volume import Volume
from medgan.data.dicom.conversion import Conversion
from medgan.data.layouts.listed import Listed

TILT = 40.0
"""Degrees, nodding forward; the header does not say so."""
SPACING = np.array([5.0, 0.9375, 0.9375])
"""Of the slices, which are sagittal, and within them, in mm."""
SIZE = (1200, 2130)


def main(model: str, source: str, folder: str, images: str) -> None:
    """Writes head, scores, page and pictures."""
    out = Path(folder)
    tilted(read(Path(source))).save(out / "scan" / "head.nii.gz")
    settings = {"out": str(out), "model_uri": model, "data.source": str(out / "scan")}
    run_pipeline("score", [f"{name}={value}" for name, value in settings.items()])
    (page,) = (out / "report" / "scans").glob("*.html")
    save_screenshots({"head": page}, Path(images), SIZE, ("light",))


def read(folder: Path) -> Volume:
    """A DICOM series, RAS+."""
    with Conversion(folder) as conversion:
        (listed,) = conversion.expand(Listed("x", "", {"image": folder}))
        volume, _ = conversion.volume(listed.series, "head")
    return volume.canonical()


def tilted(scan: Volume) -> Volume:
    """The head turned about its left-right axis, in the axes of the scanner, with thick slices."""
    turn = Rotation.from_euler("x", -TILT, degrees=True).as_matrix()
    extent = scan.field_of_view * [1.0, 1.15, 1.15]
    shape = np.ceil(extent / SPACING).astype(int)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -SPACING * (shape - 1) / 2
    middle = scan.affine @ [*(np.array(scan.shape) - 1) / 2, 1.0]
    to_head = np.eye(4)
    to_head[:3, :3], to_head[:3, 3] = turn, middle[:3]
    at = np.linalg.inv(scan.affine) @ to_head @ affine
    data = np.asarray(scan.data, np.float32)
    moved = ndimage.affine_transform(
        data, at[:3, :3], at[:3, 3].tolist(), tuple(shape.tolist()), order=1
    )
    return Volume(moved, affine)


if __name__ == "__main__":
    main(*sys.argv[1:])
