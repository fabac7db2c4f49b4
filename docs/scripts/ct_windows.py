"""Draws one chest CT, read from DICOM, through three of the windows that have names.

python docs/scripts/ct_windows.py FOLDER_OF_A_CHEST_CT docs/images/ct-windows.png
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medgan.core.config import WINDOWS
from medgan.data.dicom.conversion import Conversion
from medgan.data.layouts.listed import Listed

SHOWN = ("lung", "soft tissue", "bone")


def main(folder: Path, picture: Path) -> None:
    """Axial slices above, coronal ones below; patient's right on the left."""
    with Conversion(folder) as conversion:
        (listed,) = conversion.expand(Listed("chest", "", {"image": folder}))
        assert listed.series is not None
        scan = conversion.volume(listed.series, "chest")[0].canonical()
    x, y, z = scan.spacing
    middle = np.array(scan.data.shape) // 2
    planes = (
        (scan.data[:, :, middle[2]], y / x),
        (scan.data[:, middle[1], :], z / x),
    )
    size = [plane.shape[1] * aspect / plane.shape[0] for plane, aspect in planes]
    figure = Figure(figsize=(9, 3 * sum(size) + 0.3), layout="constrained", facecolor="black")
    axes = figure.subplots(2, len(SHOWN), height_ratios=size)
    for column, name in enumerate(SHOWN):
        low, high = WINDOWS[name]
        for row, (plane, aspect) in enumerate(planes):
            axis = axes[row, column]
            axis.imshow(
                plane.T[:, ::-1], cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect,
                interpolation="antialiased",
            )  # fmt: skip
            axis.set_axis_off()
        title = f"{name}: {low:.0f} to {high:.0f} HU"
        axes[0, column].set_title(title, color="white", fontsize=10)
    figure.savefig(picture, dpi=100, facecolor="black")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
