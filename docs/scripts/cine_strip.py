"""A drawn heartbeat beside the patient of the training or of the others that is most like it.

    python docs/scripts/cine_strip.py runs/cine docs/images/cine.png

The folder is that of a training of sequences (docs/how-to/sequences.md). Prints, for eight drawn
subjects, the most similar patient (correlation of whole beats, each less its mean over time and
space) and whether the training saw it.
"""

import sys
from pathlib import Path

import numpy as np

import medgan
from medgan.data.manifest import Manifest
from medgan.data.prepared import read_scans
from medgan.model.series import series
from medgan.reporting.slices import INK, PREPARED, aspect_of, panels, plane, save_figure

SUBJECTS, SHOWN = 8, 10


def main(folder: Path, image: Path) -> None:
    """Draws, compares and shows the first subject beside the patient most like it."""
    model, cases = medgan.load(str(folder / "model")), Manifest.load(folder / "manifest.json").cases
    patients = {}
    for subject in sorted({case.subject for case in cases}):
        mine = [case for case in cases if case.subject == subject]
        mine.sort(key=lambda case: float(str(case.covariates["phase"])))
        beat = read_scans(mine, model.preprocessing, folder).images[:, 0].numpy()
        patients[mine[0].split, subject] = beat
    phases = len(next(iter(patients.values())))
    for number in range(SUBJECTS):
        frames = series(model, model.draw(0, number), "phase", list(np.arange(phases) / phases))
        drawn = np.stack([frame.volume[0].numpy() for frame in frames.frames])
        found = {
            key: float(np.corrcoef(drawn.ravel(), beat.ravel())[0, 1])
            for key, beat in patients.items()
        }
        best = max(found, key=lambda key: found[key])
        told = ", ".join(f"{split} {value:.2f}" for (split, _), value in found.items())
        print(f"subject {number}: {told}; most like a patient of {best[0]}")
        if number == 0:
            show(image, drawn, patients[best], best[0], model.preprocessing.spacing)


def show(
    path: Path,
    drawn: np.ndarray,
    beat: np.ndarray,
    split: str,
    spacing: tuple[float, float, float],
) -> None:
    """Sagittal slices through the middle, over the beat; hearts lie obliquely."""
    figure, axes = panels(2, SHOWN, 1.1)
    for row, (name, frames) in enumerate((("drawn", drawn), (f"patient ({split})", beat))):
        for column in range(SHOWN):
            frame = frames[column * len(frames) // SHOWN]
            shown = plane(frame, 0, frame.shape[0] // 2)
            axes[row, column].imshow(
                PREPARED.shares(shown), cmap="gray", vmin=0, vmax=1, aspect=aspect_of(0, spacing)
            )
        axes[row, 0].set_title(name, color=INK, fontsize=8, loc="left")
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.9, 0.03, 0.12)
    save_figure(figure, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
