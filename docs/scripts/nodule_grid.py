"""Sixteen real and sixteen drawn lung nodules, shuffled, for a reader; the answers below.

Drawn ones lie in crops whose own nodule was taken out, with masks and appearance of other patients.
Prints how well a small classifier tells real crops from drawn ones, beside real from real, and
how well a segmenter of real nodules agrees with the masks of drawn ones, beside real ones.

A model of train.task lesions refines them, or none, which pastes lesions as they are.

python docs/scripts/nodule_grid.py MODEL MANIFEST docs/images/nodules.png
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medgan.core.config import WINDOWS, Preprocessing
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import read_scans
from medgan.evaluation.probes.augmentation import strong
from medgan.evaluation.probes.segmentation import dice_of_scans, segment, train_segmenter
from medgan.evaluation.probes.two_sample import separability
from medgan.model.model import Model
from medgan.studies.utility.lesions import DrawnLesions
from medgan.studies.utility.task import Examples, random_cases

SHOWN, LABELLED, JUDGED, STEPS = 16, 20, 48, 150

GRID = Preprocessing(
    spacing=(1.25, 1.25, 2.5), shape=(32, 32, 16), intensity="ct", labels=(1,),
    window=(WINDOWS["lung"], WINDOWS["soft tissue"]),
)  # fmt: skip
"""That of the preset lidc_lesions."""


def main(named: str, manifest: Path, picture: Path) -> None:
    """Writes the picture and prints both measures."""
    model = None if named == "none" else Model.load(named)
    cache = Path(tempfile.mkdtemp())
    cases = Manifest.load(manifest)
    chosen = random_cases(cases.split("train"), LABELLED + 2 * JUDGED, 0, "training crops")
    few, many = (examples(part, cache) for part in (chosen[:LABELLED], chosen[LABELLED:]))
    test = examples(cases.split("test"), cache)
    drawn = DrawnLesions(few, *many, GRID, model).draw(SHOWN + 2 * JUDGED, seed=1)
    grid_of(test, drawn, picture)
    fake, fake_test = drawn.images[SHOWN:].split(JUDGED)
    real = many.images[JUDGED:]
    found = separability(real, fake, test.images[-JUDGED:], fake_test, 0, STEPS, bf16=False)
    half = len(test.images) // 2
    halves = (*many.images.split(JUDGED), *test.images[: 2 * half].split(half))
    floor = separability(*halves, 0, STEPS, bf16=False)
    print(f"judge: AUROC {found:.2f} of drawn against real crops, {floor:.2f} of real against real")
    network = train_segmenter(*many, 1, 2 * STEPS, 0, augment=strong, bf16=False)
    for name, part in (("real", test), ("drawn", drawn)):
        dice = dice_of_scans(segment(network, part.images), part.targets, 1)
        print(f"segmenter: Dice {float(dice.nanmean()):.3f} with the masks of {name} nodules")


def examples(cases: Sequence[Case], out: Path) -> Examples:
    """Crops and their masks on the model's grid."""
    scans = read_scans(cases, GRID, out)
    return Examples(scans.images, scans.label_maps.long())


def grid_of(real: Examples, drawn: Examples, picture: Path) -> None:
    """Slices through the largest part of each nodule, in random order."""
    chosen = np.random.default_rng(0).permutation(len(real.images))[:SHOWN]
    tiles = [(real.images[n, 0], real.targets[n], "real") for n in chosen]
    tiles += [(drawn.images[n, 0], drawn.targets[n], "drawn") for n in range(SHOWN)]
    order = np.random.default_rng(1).permutation(len(tiles))
    figure = Figure(figsize=(8, 4.6), facecolor="white")
    axes = figure.subplots(4, 8).ravel()
    for number, (axis, n) in enumerate(zip(axes, order, strict=True), start=1):
        image, mask, _ = tiles[n]
        at = int(mask.sum(dim=(0, 1)).argmax())
        axis.imshow(image[:, :, at].T, cmap="gray", vmin=-1, vmax=1, origin="lower")
        axis.set_title(str(number), fontsize=7, pad=1)
        axis.axis("off")
    answers = [str(number) for number, n in enumerate(order, start=1) if tiles[n][2] == "drawn"]
    figure.text(0.5, 0.01, f"drawn: {', '.join(answers)}", ha="center", fontsize=7, rotation=180)
    figure.subplots_adjust(0.01, 0.06, 0.99, 0.95, 0.05, 0.15)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
