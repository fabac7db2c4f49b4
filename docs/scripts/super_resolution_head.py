"""A head in thick slices beside its super-resolution: the picture of super-resolution.md.

python docs/scripts/super_resolution_head.py runs/fine/model dicom/head_mr_hfs head.png
"""

import sys
from pathlib import Path

import numpy as np

import medgan
from medgan.core.volume import Volume
from medgan.data.acquisition import coarse_scan
from medgan.data.dicom.conversion import Conversion
from medgan.data.layouts.listed import Listed
from medgan.reporting.side_by_side import Column, side_by_side
from medgan.reporting.slices import ColourScale


def read(folder: Path) -> Volume:
    """A DICOM series."""
    with Conversion(folder) as conversion:
        (listed,) = conversion.expand(Listed("x", "", {"image": folder}))
        volume, _ = conversion.volume(listed.series, "head")
    return volume


def main(model: str, source: str, picture: str) -> None:
    """Restores the head, says how true it is to the slices, and writes the picture."""
    scan, restorer = read(Path(source)), medgan.load(model)
    slices = coarse_scan(scan, restorer.preprocessing.spacing)
    acquisition = slices.acquisition
    fine = restorer.translate(scan).images["image"]
    again = acquisition.degrade(fine.data)
    top = float(np.percentile(slices.data, 99.5))
    for name, one in (("slices", scan.canonical()), ("fine scan", fine)):
        spacing = " x ".join(f"{mm:.2f}" for mm in one.spacing)
        print(f"{name}: {one.shape} voxels of {spacing} mm")
    apart = np.abs(again - slices.data).max() / top
    print(
        f"largest difference of the slices, made of it again: {apart:.1e} of the 99.5th percentile"
    )
    scale = ColourScale(0.0, top)
    columns = [
        Column("slices", acquisition.interpolate(slices.data, "nearest"), scale),
        Column("cubic", acquisition.interpolate(slices.data, "cubic"), scale),
        Column("windowed sinc", acquisition.interpolate(slices.data, "sinc"), scale),
        Column("restored", fine.data, scale),
    ]
    side_by_side(Path(picture), columns, fine.spacing)


if __name__ == "__main__":
    main(*sys.argv[1:])
