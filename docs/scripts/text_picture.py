"""Ten sentences and the first samples of each, none chosen, with the size of the nodule.

python docs/scripts/text_picture.py runs/nodule-text/model docs/images/text.png
"""

import re
import sys
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from text_table import diameter_of

from medgan.data.words import words_of
from medgan.model.model import Model

SENTENCES = (
    "A round solid nodule of 6 mm with no spiculation",
    "A round solid nodule of 12 mm with no spiculation",
    "A round solid nodule of 25 mm with no spiculation",
    "A spiculated solid nodule of 20 mm, highly suspicious",
    "A solid nodule of 20 mm with no spiculation; highly unlikely to be malignant",
    "A ground glass nodule of 15 mm with ill defined margins",
    "An ovoid nodule of 10 mm with sharp margins and central calcification",
    "Lung nodule: extremely suspicious, spiculated, lobulated, 3 cm",
    "Spherical lung nodule, not spiculated, 0.8 cm",
    "A linear nodule of 12 mm, moderately suspicious for malignancy",
)
COLUMNS, SEED, FAR = 8, 0, 1.5
"""Samples of each sentence; a nodule is marked whose size differs by more than this factor."""
WINDOW = (-1000, 400)


def asked_mm(sentence: str) -> float:
    """The size that a sentence asks for."""
    words = words_of(sentence)
    at = next(n for n, word in enumerate(words) if re.fullmatch(r"[\d.]+", word))
    return float(words[at]) * (10 if words[at + 1] == "cm" else 1)


def main(model: Model, path: Path) -> None:
    """Writes the picture, and prints how many sizes are far off."""
    figure = Figure(figsize=(1.1 * COLUMNS + 2.4, 1.22 * len(SENTENCES)), facecolor="white")
    axes = figure.subplots(
        len(SENTENCES), COLUMNS,
        gridspec_kw={"left": 0.22, "right": 0.995, "top": 0.98, "bottom": 0.005, "hspace": 0.18,
                     "wspace": 0.04},
    )  # fmt: skip
    spacing, wrong = model.preprocessing.spacing, 0
    for row, sentence in zip(axes, SENTENCES, strict=True):
        wanted = asked_mm(sentence)
        samples = model.generate(COLUMNS, seed=SEED, text=sentence)
        row[0].text(
            -0.12, 0.5, textwrap.fill(sentence, 30), transform=row[0].transAxes, ha="right",
            va="center", fontsize=8.5,
        )  # fmt: skip
        for ax, sample in zip(row, samples, strict=True):
            assert sample.label is not None
            mask = sample.label.data == 1
            middle = mask.shape[2] // 2
            level = int(np.argmax(mask.sum(axis=(0, 1)))) if mask.any() else middle
            found = diameter_of(mask, spacing)
            off = not wanted / FAR <= found <= wanted * FAR
            wrong += off
            low, high = WINDOW
            ax.imshow(sample.image.data[..., level].T, cmap="gray", vmin=low, vmax=high)
            if mask[..., level].any():
                ax.contour(mask[..., level].T, [0.5], colors="tab:cyan", linewidths=0.8)
            ax.set_title(
                f"{found:.0f} mm", fontsize=7.5, pad=1.5, color="tab:red" if off else "black"
            )
            ax.set_axis_off()
            ax.invert_yaxis()
    figure.savefig(path, dpi=110)
    print(f"{wrong} of {COLUMNS * len(SENTENCES)} sizes are off by more than a factor of {FAR}")


if __name__ == "__main__":
    main(Model.load(sys.argv[1]), Path(sys.argv[2]))
