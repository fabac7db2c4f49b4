"""Plots measurements of brains conditioned on age and sex beside real brains, and prints them.

    python docs/scripts/condition_plot.py runs/ixi docs/images/age.png

The folder is that of a training with `data.conditions={age: continuous, sex: categorical}` on
skull-stripped T1 scans.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import medgan
from medgan.data.batches import PreparedVolumes
from medgan.data.conditions import covariates_of, understood
from medgan.data.manifest import Manifest
from medgan.evaluation.sets.response import response
from medgan.networks.metrics import dark_share

COLOURS = {"F": "#c2410c", "M": "#1d4ed8"}
EACH = 2
"""Synthetic scans for each sex and year of age."""


def brain_millilitres(volume: Tensor, spacing: tuple[float, float, float]) -> Tensor:
    """Volume (B,) of all voxels brighter than the background."""
    voxel = spacing[0] * spacing[1] * spacing[2] / 1000
    return (volume > -0.9).flatten(1).sum(dim=1) * voxel


def measured(volumes: Tensor, spacing: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Dark share and brain volume of volumes (B, 1, X, Y, Z)."""
    return dark_share(volumes), brain_millilitres(volumes, spacing)


def main(folder: Path, image: Path) -> None:
    """Measures real scans (the line is fitted to held-out ones) and synthetic scans."""
    model = medgan.load(str(folder / "model"))
    grid = model.preprocessing
    every = Manifest.load(folder / "manifest.json").cases
    covariates = [understood(grid.conditions, covariates_of(c, grid.conditions)) for c in every]
    pairs = zip(every, covariates, strict=True)
    cases = [case for case, values in pairs if None not in values.values()]
    known = [values for values in covariates if None not in values.values()]
    prepared = PreparedVolumes(cases, grid, folder / "cache")
    real = torch.stack([prepared[i][0] for i in range(len(prepared))])
    ages = [a for a in range(22, 76) for _ in range(EACH)]
    asked = [{"age": float(age), "sex": sex} for age in ages for sex in "FM"]
    fake = torch.stack(
        [
            torch.from_numpy(model.generate(1, 0, number, conditions=wanted)[0].image.data)[None]
            for number, wanted in enumerate(asked)
        ]
    )
    fake = fake.float() / 500 - 1  # written from 0 to 1000

    def column(rows: list[dict], name: str) -> Tensor:
        return torch.tensor([float(row[name]) for row in rows])

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    (real_dark, real_size), (dark, size) = (
        measured(real, grid.spacing),
        measured(fake, grid.spacing),
    )
    for kind, rows, values, filled in (
        ("real", known, real_dark, False), ("synthetic", asked, dark, True),
    ):  # fmt: skip
        for sex, colour in COLOURS.items():
            mine = torch.tensor([row["sex"] == sex for row in rows])
            left.scatter(
                column(rows, "age")[mine], values[mine], s=12, edgecolors=colour, linewidths=0.8,
                facecolors=colour if filled else "none", label=f"{kind}, {sex}",
            )  # fmt: skip
    left.set_xlabel("age, real or asked for (years)")
    left.set_ylabel("dark share of the brain")
    left.legend(fontsize=7)
    sizes, names = [], []
    for sex in COLOURS:
        for kind, rows, values in (("real", known, real_size), ("synthetic", asked, size)):
            sizes.append(values[torch.tensor([row["sex"] == sex for row in rows])].numpy())
            names.append(f"{kind}, {sex}")
    right.boxplot(sizes, tick_labels=names)
    right.tick_params(axis="x", labelsize=7)
    right.set_ylabel("brain volume (ml)")
    figure.savefig(image, dpi=110)

    held_out = torch.tensor([case.split != "train" for case in cases])
    age = column(known, "age")
    for name, chosen in (("all real scans", held_out | ~held_out), ("held-out scans", held_out)):
        found = response(age[chosen], real_dark[chosen], column(asked, "age"), dark)
        print(name, {key: round(value, 4) for key, value in found._asdict().items()})
    for label, values in zip(names, sizes, strict=True):
        print(f"{label}: {values.mean():.0f} ml, standard deviation {values.std():.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
