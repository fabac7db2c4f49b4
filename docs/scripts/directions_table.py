"""Do directions change more than random ones, and are samples of long latents worse?

Writes the tables of docs/how-to/latent.md, "Directions without labels".

    python docs/scripts/directions_table.py zoo/ixi-brain DATA SPLITS
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan.core.tables import markdown_table
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.reading import read_case
from medgan.data.splits import read_splits, with_given_splits
from medgan.model.hull import share_longer
from medgan.model.model import Model
from medgan.model.outputs import Latent
from medgan.networks.directions import closed_form, first_layers
from medgan.networks.metrics import band_features, kernel_distance

SUBJECTS, RANDOM, SAMPLES = 4, 20, 60
"""Synthetic subjects along each direction; random directions; samples of each length."""
LENGTHS = (0.5, 0.7, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0)


def change(model: Model, direction: Tensor) -> float:
    """Mean change from -3 to 3 standard deviations, as a share of the range of intensities."""
    found = []
    for number in range(SUBJECTS):
        subject = model.draw(0, number)
        first, last = (
            model.channels(Latent(subject.values + far * direction.numpy(), subject.covariates))
            for far in (np.float32(-3), np.float32(3))
        )
        found.append(float((last[:1] - first[:1]).abs().mean()) / 2)
    return float(np.mean(found))


def samples(model: Model, length: float) -> Tensor:
    """Random samples whose latents are so many times as long."""
    drawn = [model.draw(1, number) for number in range(SAMPLES)]
    moved = (Latent(length * one.values, one.covariates) for one in drawn)
    return torch.stack([model.channels(one)[:1] for one in moved])


def main(model: Model, real: Tensor) -> None:
    """Prints both tables."""
    every = closed_form(first_layers(model.networks.generator), model.sizes.latent)
    random = torch.randn(RANDOM, model.sizes.latent, generator=torch.Generator().manual_seed(0))
    groups = {
        **{f"direction:{n}": every.vectors[n - 1 : n] for n in (1, 2, 3, 4, 5, 6)},
        "the last six": every.vectors[-6:],
        f"{RANDOM} random ones": random / random.norm(dim=1, keepdim=True),
    }
    rows = []
    for name, vectors in groups.items():
        changes = [change(model, vector) for vector in vectors]
        rows.append([name, f"{np.mean(changes):.2%}", f"{max(changes):.2%}"])
    print(markdown_table(("direction", "mean change", "largest"), rows), flush=True)
    features, rows = band_features(real), []
    usual = np.full(model.sizes.latent, 1.0)
    for length in LENGTHS:
        distance = float(kernel_distance(features, band_features(samples(model, length))))
        rows.append([f"{length:g}", f"{share_longer(length * usual):.2g}", f"{distance:.2f}"])
    print(markdown_table(("length", "longer latents", "kernel distance to real scans"), rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for argument in ("model", "data", "splits"):
        parser.add_argument(argument, type=Path)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    loaded, pseudonyms = Model.load(given.model), Pseudonyms.of_site()
    manifest, _ = index(given.data, pseudonyms)
    splits = read_splits(given.splits, given.data)
    manifest = with_given_splits(manifest, splits, pseudonyms, 0)
    held_out = [*manifest.split("calibration"), *manifest.split("test")]
    volumes = [loaded.prepare(read_case(case, False)).volume for case in held_out]
    main(loaded, torch.stack(volumes))
