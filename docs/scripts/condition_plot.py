"""Plots measurements of brains conditioned on age and sex beside real brains, and prints them.

    python docs/scripts/condition_plot.py runs/ixi docs/images/age.png

The folder is that of a training with `data.conditions={age: continuous, sex: categorical}` on
skull-stripped T1 scans. Age is measured by the dark share of the brain or, in aligned scans, of its
middle, where the ventricles are; sex by the volume of the brain or, in aligned scans, which are
all of one size, by a classifier of the training scans.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
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


def ventricle_share(volume: Tensor) -> Tensor:
    """Share (B,) of the middle of aligned brains (B, 1, X, Y, Z) that is dark.

    The middle is a box around the ventricles of the mean scan, a tenth of the field of view; the
    threshold, about halfway from fluid to white matter, was chosen by its correlation with age in
    real scans of all splits.
    """
    edges = ((0.34, 0.66), (0.28, 0.72), (0.42, 0.66))
    size = volume.shape[2:]
    x, y, z = (slice(int(n * a), int(n * b)) for n, (a, b) in zip(size, edges, strict=True))
    return (volume[:, :, x, y, z] < 0.1).flatten(1).float().mean(dim=1)


def by_a_classifier(learned: Tensor, sexes: list[str], volumes: Tensor) -> Tensor:
    """How male volumes look (logits) to a linear classifier of other volumes and their sexes."""
    model = make_pipeline(PCA(20, random_state=0), LogisticRegression(C=0.01, max_iter=5000))
    model.fit(learned.flatten(1).numpy(), [sex == "M" for sex in sexes])
    return torch.from_numpy(model.decision_function(volumes.flatten(1).numpy()))


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
    learned = torch.tensor([case.split == "train" for case in cases])
    sexes = [row["sex"] for row in known]
    aligned = grid.align != "none"
    share = ventricle_share if aligned else dark_share
    real_dark, dark = share(real), share(fake)
    if aligned:
        of_training = [sex for sex, mine in zip(sexes, learned, strict=True) if mine]
        real_size, size = (
            by_a_classifier(real[learned], of_training, volumes) for volumes in (real, fake)
        )
    else:
        real_size, size = (brain_millilitres(volumes, grid.spacing) for volumes in (real, fake))
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
    left.set_ylabel(f"dark share of the {'middle of the ' if aligned else ''}brain")
    left.legend(fontsize=7)
    sizes, names = [], []
    for sex in COLOURS:
        for kind, rows, values, used in (
            ("real", known, real_size, ~learned), ("synthetic", asked, size, True),
        ):  # fmt: skip
            mine = torch.tensor([row["sex"] == sex for row in rows]) & used
            sizes.append(values[mine].numpy())
            names.append(f"{kind}, {sex}")
    right.boxplot(sizes, tick_labels=names)
    right.tick_params(axis="x", labelsize=7)
    right.set_ylabel("how male a classifier finds it" if aligned else "brain volume (ml)")
    figure.savefig(image, dpi=110)

    age = column(known, "age")
    for name, chosen in (("all real scans", learned | ~learned), ("held-out scans", ~learned)):
        found = response(age[chosen], real_dark[chosen], column(asked, "age"), dark)
        print(name, {key: round(value, 4) for key, value in found._asdict().items()})
    for label, values in zip(names, sizes, strict=True):
        print(f"{label}: {values.mean():.4g}, standard deviation {values.std():.2g}")
    women, women_asked, men, men_asked = sizes
    for name, low, high in (("held-out scans", women, men), ("samples", women_asked, men_asked)):
        male = [0] * len(low) + [1] * len(high)
        print(f"AUROC of sex, {name}: {roc_auc_score(male, [*low, *high]):.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
