"""One scan under the changes of test scans, and what networks learn from in its place.

python docs/scripts/contrast_grid.py MANIFEST docs/images/contrast.png
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medgan.core.config import Preprocessing
from medgan.data.manifest import Manifest
from medgan.data.prepared import read_scans
from medgan.evaluation.probes.contrast import drawn, recontrasted, scanned, tissues
from medgan.studies.utility.contrast import CHANGES, changed

GRID = Preprocessing(spacing=(1, 1, 1), shape=(32, 48, 32), labels=(1, 2))
"""That of the preset msd_hippocampus."""


def main(manifest: Path, picture: Path) -> None:
    """Sagittal slices: changes above, contrasts of the scan, images drawn from its tissues."""
    case = Manifest.load(manifest).split("train")[0]
    scan = read_scans([case], GRID, Path(tempfile.mkdtemp()))
    image, classes = scan.images[0, 0].numpy(), scan.label_maps[0].numpy()
    parts, rng = tissues(image, 0), np.random.default_rng(0)
    at = int((classes > 0).sum(axis=(1, 2)).argmax())
    rows = [
        [
            changed(scan.images, change, n)[0, 0].numpy()
            for n, change in enumerate(CHANGES.values())
        ],
        [scanned(recontrasted(image, rng), rng) for _ in CHANGES],
        [scanned(drawn(image, parts, rng), rng) for _ in CHANGES],
    ]
    figure = Figure(figsize=(9, 2.7), facecolor="white")
    axes = figure.subplots(len(rows), len(CHANGES))
    for axis, name in zip(axes[0], CHANGES, strict=True):
        axis.set_title(name, fontsize=7, pad=2)
    names = ("test scan", "strong", "appearance")
    for line, row, name in zip(axes, rows, names, strict=True):
        line[0].text(-3, 16, name, fontsize=7, rotation=90, ha="right", va="center")
        for axis, seen in zip(line, row, strict=True):
            axis.imshow(seen[at].T, cmap="gray", vmin=-1, vmax=1, origin="lower")
            axis.axis("off")
    figure.subplots_adjust(0.02, 0.01, 0.995, 0.93, 0.04, 0.04)
    figure.savefig(picture, dpi=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
