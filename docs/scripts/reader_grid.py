"""Sixteen real and sixteen drawn scans, shuffled, for a reader; the answers below.

Prints how well a small classifier tells real scans from drawn ones, beside real from real, and
how well a segmenter of real scans agrees with the masks of drawn ones, beside real ones.

A model of train.task lesions draws lung nodules into crops whose own nodule was taken out, with
masks and appearance of other patients; `none` pastes lesions as they are. A model of mask_to_image
draws whole scans, of the label maps of test subjects.

python docs/scripts/reader_grid.py MODEL MANIFEST docs/images/nodules.png
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from medgan.core.config import WINDOWS, Preprocessing
from medgan.data.manifest import Case, Manifest
from medgan.data.pairs.mask_to_image import MaskToImage
from medgan.data.prepared import read_scans, stored
from medgan.evaluation.probes.augmentation import strong
from medgan.evaluation.probes.segmentation import dice_of_scans, segment, train_segmenter
from medgan.evaluation.probes.two_sample import separability
from medgan.model.answer import answer
from medgan.model.model import Model
from medgan.studies.utility.lesions import DrawnLesions
from medgan.studies.utility.task import Examples, random_cases

SHOWN, LABELLED, JUDGED, STEPS = 16, 20, 48, 150

LUNG = Preprocessing(
    spacing=(1.25, 1.25, 2.5), shape=(32, 32, 16), intensity="ct", labels=(1,),
    window=(WINDOWS["lung"], WINDOWS["soft tissue"]),
)  # fmt: skip
"""The grid of the preset lidc_lesions."""


def main(named: str, manifest: Path, picture: Path) -> None:
    """Writes the picture and prints both measures."""
    model = None if named == "none" else Model.load(named)
    grid = LUNG if model is None else model.preprocessing.model_copy(update={"patches": False})
    cases = Manifest.load(manifest)
    whole = model is not None and model.networks.needed_translator.conversion.task != "lesions"
    few = 0 if whole else LABELLED
    train = cases.split("train")
    count = min(few + 2 * JUDGED, len(train))
    chosen = examples(random_cases(train, count, 0, "training scans"), grid)
    test = examples(cases.split("test"), grid)
    bank, made_from, real = (
        Examples(*parts)
        for parts in zip(
            *(part.split([few, JUDGED, count - few - JUDGED]) for part in chosen), strict=True
        )
    )
    if whole:
        assert model is not None
        drawn, drawn_test = of_label_maps(model, made_from), of_label_maps(model, test)
    else:
        into = Examples(*(torch.cat(both) for both in zip(made_from, real, strict=True)))
        made = DrawnLesions(bank, *into, grid, model).draw(SHOWN + 2 * JUDGED, seed=1)
        drawn_test = Examples(*(part[: SHOWN + JUDGED] for part in made))
        drawn = Examples(*(part[SHOWN + JUDGED :] for part in made))
    grid_of(test, drawn_test, picture)
    half = len(test.images) // 2
    found = separability(
        real.images, drawn.images, test.images[-JUDGED:], drawn_test.images[-JUDGED:], 0, STEPS,
        bf16=False,
    )  # fmt: skip
    one, other = test.images[:half], test.images[half : 2 * half]
    floor = separability(made_from.images, real.images, one, other, 0, STEPS, bf16=False)
    print(f"judge: AUROC {found:.2f} of drawn against real scans, {floor:.2f} of real against real")
    classes = len(grid.labels)
    learned = Examples(*(torch.cat(both) for both in zip(made_from, real, strict=True)))
    network = train_segmenter(
        learned.images, learned.targets, classes, 2 * STEPS, 0, augment=strong, bf16=False
    )
    for name, part in (("real", test), ("drawn", drawn_test)):
        dice = dice_of_scans(segment(network, part.images), part.targets, classes)
        print(f"segmenter: Dice {float(dice.nanmean()):.3f} with the masks of {name} scans")


def examples(cases: Sequence[Case], grid: Preprocessing) -> Examples:
    """Scans and their masks on the model's grid."""
    scans = read_scans(cases, grid, Path(tempfile.mkdtemp()))
    return Examples(scans.images, scans.label_maps.long())


def of_label_maps(model: Model, real: Examples) -> Examples:
    """An answer with noise for each label map, which is its label by construction.

    What lies beyond a real scan is black in it, and made black in the answer: a judge would else
    tell them by the frame.
    """
    pairing = MaskToImage.of(model.preprocessing, model.networks.needed_translator.conversion)
    drawn = [
        answer(model, pairing.given(pairing.outline(mask.numpy(), 0), None), seed, 0)
        for seed, mask in enumerate(real.targets.int())
    ]
    images = torch.where(real.images > -1, torch.from_numpy(np.stack(drawn)), -1)
    return Examples(stored(images), real.targets)


def grid_of(real: Examples, drawn: Examples, picture: Path) -> None:
    """Slices through the largest part of each mask, in random order."""
    rng = np.random.default_rng(0)
    tiles = [(part, n) for part in (real, drawn) for n in rng.permutation(len(part.images))[:SHOWN]]
    order = np.random.default_rng(1).permutation(len(tiles))
    figure = Figure(figsize=(8, 4.6), facecolor="white")
    axes = figure.subplots(4, 8).ravel()
    for number, (axis, place) in enumerate(zip(axes, order, strict=True), start=1):
        part, n = tiles[place]
        at = int(part.targets[n].gt(0).sum(dim=(0, 1)).argmax())
        axis.imshow(part.images[n, 0, :, :, at].T, cmap="gray", vmin=-1, vmax=1, origin="lower")
        axis.set_title(str(number), fontsize=7, pad=1)
        axis.axis("off")
    answers = [str(number) for number, n in enumerate(order, start=1) if n >= SHOWN]
    figure.text(0.5, 0.01, f"drawn: {', '.join(answers)}", ha="center", fontsize=7, rotation=180)
    figure.subplots_adjust(0.01, 0.06, 0.99, 0.95, 0.05, 0.15)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
