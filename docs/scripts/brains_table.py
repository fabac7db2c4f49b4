"""Samples of a model of brains beside held-out scans: a picture of 24 and 24, and measurements.

Writes the tables of docs/explanation/brains.md.

    python docs/scripts/brains_table.py runs/brain4 docs/images/brains-4mm.png

With `--half` as a third word the classifiers see half the size alone: at full size they take an
hour of one core on a grid of 96 x 96 x 96. The folder is that of a training with `data.splits`.
Calibration and test scans are compared with as many samples. Classifiers learn from the training
scans and as many other samples, and are tested on test scans and the samples that are compared.
Intervals of real scans are of 500 random halves of the held-out ones.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import medgan
from medgan.core.tables import markdown_table
from medgan.data.manifest import Manifest
from medgan.data.noise import noise_level
from medgan.data.prepared import read_scans, stored
from medgan.evaluation.probes.two_sample import separability
from medgan.evaluation.sets.similarity import mean_similarity
from medgan.networks.metrics import band_features, diversity, kernel_distance
from medgan.reporting.slices import INK, PREPARED, panels, plane, save_figure

SHOWN, COLUMNS = 24, 12
SEEDS, PAIRS, HALVES = 3, 300, 500


def picture(path: Path, real: Tensor, fake: Tensor) -> None:
    """Axial slices of samples above those of scans, then coronal ones likewise."""
    lines = SHOWN // COLUMNS
    figure, axes = panels(4 * lines, COLUMNS, 1.0)
    for block, (axis, name, volumes) in enumerate(
        (a, f"{kind}, {p}", v)
        for a, p in ((2, "axial"), (1, "coronal"))
        for kind, v in (("samples", fake), ("scans", real))
    ):
        middle = volumes.shape[2 + axis] // 2
        for number in range(SHOWN):
            ax = axes[block * lines + number // COLUMNS, number % COLUMNS]
            shown = plane(volumes[number, 0].numpy(), axis, middle)
            ax.imshow(PREPARED.shares(shown), cmap="gray", vmin=0, vmax=1)
        axes[block * lines, 0].set_title(name, color=INK, fontsize=8, loc="left")
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.97, 0.02, 0.08)
    save_figure(figure, path)


def halves(volumes: Tensor) -> tuple[float, float]:
    """Kernel distances of random halves to each other: mean and 95th percentile."""
    features, random = band_features(volumes), torch.Generator().manual_seed(0)
    found = []
    for _ in range(HALVES):
        order = torch.randperm(len(features), generator=random)
        first, second = order.tensor_split(2)
        found.append(float(kernel_distance(features[first], features[second])))
    return float(np.mean(found)), float(np.quantile(found, 0.95))


def noise(volumes: Tensor) -> np.ndarray:
    """Level of each volume."""
    return np.array([noise_level(volume[0].numpy()) for volume in volumes])


def main(folder: Path, image: Path, half_alone: bool) -> None:
    """Measures and draws."""
    model, manifest = medgan.load(str(folder / "model")), Manifest.load(folder / "manifest.json")
    grid, cases = model.preprocessing, manifest.split
    real, train, test = (
        read_scans(some, grid, folder).images
        for some in ([*cases("calibration"), *cases("test")], cases("train"), cases("test"))
    )
    count = len(real) + len(train)
    fake = stored(torch.stack([model.channels(model.draw(1, n))[:1] for n in range(count)]))
    picture(image, real, fake)
    rows = []
    for size, name in ((1, "full size"), (2, "half size")):
        known, drawn, learned = (F.avg_pool3d(v, size) for v in (real, fake, train))
        tested = F.avg_pool3d(test, size)
        mean, high = halves(known)
        first, second = drawn[: len(train)], drawn[len(train) :]
        auroc = "not measured"
        if size > 1 or not half_alone:
            found = [separability(learned, first, tested, second, seed) for seed in range(SEEDS)]
            auroc = f"{np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})"
        rows.append(
            [
                name,
                f"{float(kernel_distance(band_features(known), band_features(second))):.2f}",
                f"{float(kernel_distance(band_features(known), band_features(learned))):.2f}",
                f"{mean:.2f} (up to {high:.2f})",
                auroc,
                f"{float(diversity(second) / diversity(known)):.2f}",
                " beside ".join(f"{mean_similarity(v, PAIRS, 0):.3f}" for v in (second, known)),
            ]
        )
    print(
        markdown_table(
            [
                "", "kernel distance", "training scans", "real halves (95%)", "AUROC (range)",
                "diversity", "MS-SSIM",
            ],
            rows,
        )
    )  # fmt: skip
    levels = {"scans": noise(real), "samples": noise(fake[len(train) :])}
    for kind, found in levels.items():
        print(f"noise of {kind}: {found.mean():.4f}, standard deviation {found.std():.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), "--half" in sys.argv[3:])
