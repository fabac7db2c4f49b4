"""Which scans and edits are called unlike the training scans?

Writes the table of docs/how-to/latent.md, "Unlike the training scans".

    python docs/scripts/hull_table.py zoo/ixi-brain DATA SPLITS

The latents of training scans have a mean and a covariance, calibration scans give p-values. Test
scans are then judged as they are, and edited. Edits start from the latent of the encoder.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan.core.tables import markdown_table
from medgan.data.conditions import covariates_of, understood
from medgan.data.index import index
from medgan.data.manifest import Case
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.reading import read_case
from medgan.data.splits import read_splits, with_given_splits
from medgan.evaluation.interval import proportion
from medgan.evaluation.probes.two_sample import auroc
from medgan.model.hull import LEVEL, Hull
from medgan.model.inversion import encode_volumes
from medgan.model.model import Model
from medgan.model.outputs import Latent
from medgan.networks.directions import closed_form, first_layers

DIRECTIONS, FAR, AGES, EDITED = (
    (1, 2, 6),
    (1.0, 2.0, 3.0, 5.0, 8.0),
    (80.0, 100.0, 120.0, 200.0),
    12,
)


def volumes_of(model: Model, cases: list[Case]) -> Tensor:
    """On the model's grid."""
    return torch.stack([model.prepare(read_case(case, False)).volume for case in cases])


def edited(model: Model, volume: Tensor, start: Latent, end: Latent) -> Tensor:
    """A scan plus the difference between what two latents generate."""
    return (volume + model.channels(end)[:1] - model.channels(start)[:1]).clamp(-1, 1)


def main(model: Model, training: list[Case], calibration: list[Case], test: list[Case]) -> None:
    """Prints the table, and how well the distance tells training scans from test scans."""
    known, held_out, volumes = (volumes_of(model, s) for s in (training, calibration, test))
    latents = encode_volumes(model, known).numpy()
    hull = Hull.learn(latents, encode_volumes(model, held_out).numpy())
    own = encode_volumes(model, volumes).numpy()
    member, other = (torch.from_numpy(-hull.distance(part)) for part in (latents, own))
    print(f"{len(training)}, {len(calibration)} and {len(test)} scans; {auroc(member, other):.2f} "
          "is the AUROC of training scans against test scans")  # fmt: skip
    rows: list[list[str]] = []

    def note(name: str, scans: Tensor) -> None:
        found = np.array(hull.p_values(encode_volumes(model, scans).numpy()))
        share = proportion(int((found <= LEVEL).sum()), len(found))
        rows.append(
            [name, f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})", str(len(found))]
        )
        print(rows[-1], flush=True)

    note("test scans as they are", volumes)
    vectors = closed_form(first_layers(model.networks.generator), max(DIRECTIONS)).vectors.numpy()
    starts = []
    for case, latent in zip(test[:EDITED], own, strict=False):
        conditions = model.preprocessing.conditions
        starts.append(Latent(latent, understood(conditions, covariates_of(case, conditions))))
    for far in FAR:
        ends = [
            (n, Latent(start.values + np.float32(far) * vectors[number - 1], start.covariates))
            for number in DIRECTIONS
            for n, start in enumerate(starts)
        ]
        moved = [edited(model, volumes[n], starts[n], end) for n, end in ends]
        note(f"moved by {far:g} along directions {DIRECTIONS}", torch.stack(moved))
    for age in AGES:
        ends = [Latent(start.values, {**start.covariates, "age": age}) for start in starts]
        older = [edited(model, *three) for three in zip(volumes, starts, ends, strict=False)]
        note(f"edited to age {age:g}", torch.stack(older))
    print(markdown_table(("scans", f"unlike the training scans (p at most {LEVEL})", "n"), rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for argument in ("model", "data", "splits"):
        parser.add_argument(argument, type=Path)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    pseudonyms = Pseudonyms.of_site()
    manifest, _ = index(given.data, pseudonyms)
    splits = read_splits(given.splits, given.data)
    manifest = with_given_splits(manifest, splits, pseudonyms, 0)
    seen = [*manifest.split("train"), *manifest.split("validation")]
    main(Model.load(given.model), seen, manifest.split("calibration"), manifest.split("test"))
