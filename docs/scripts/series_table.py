"""Series along age of held-out brains: do they age as people do, evenly, and stay themselves?

Writes the table of docs/how-to/series.md, "Does it age like people?".

    python docs/scripts/series_table.py zoo/ixi-brain DATA SPLITS [--subjects 12]

The model needs the condition `age`, the data set a table with it. Frames are made in three ways:
`series` as `medgan series`; `generated` without the scan, by the same latent and age; `latent
line` as a series, but along the straight line in the latent on which the encoder's latents of the
training scans lie by least squares, with every condition unknown.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
from medgan.evaluation.privacy.copies import similarity
from medgan.evaluation.sets.similarity import ms_ssim
from medgan.model.inversion import encode, invert
from medgan.model.model import Model
from medgan.model.outputs import Latent
from medgan.networks.metrics import dark_share

AGES = [float(age) for age in range(25, 76, 5)]


class Person(NamedTuple):
    """A held-out scan: age, (1, X, Y, Z) on the model's grid, frames by how they are made."""

    age: float
    volume: Tensor
    frames: dict[str, Tensor]


def known_age(model: Model, cases: Sequence[Case]) -> list[Case]:
    """Those with an age."""
    rows = [covariates_of(case, model.preprocessing.conditions) for case in cases]
    rows = [understood(model.preprocessing.conditions, row) for row in rows]
    return [case for case, row in zip(cases, rows, strict=True) if row["age"] is not None]


def ages_of(cases: Sequence[Case]) -> Tensor:
    """In years."""
    return torch.tensor([float(str(case.covariates["age"])) for case in cases])


def slope_of(model: Model, cases: Sequence[Case]) -> Tensor:
    """Change (L,) of the encoder's latent with a year, by least squares over the training scans."""
    latents = torch.stack([encode(model, model.prepare(read_case(c, False))) for c in cases])
    age = ages_of(cases) - ages_of(cases).mean()
    return (age @ (latents - latents.mean(dim=0))) / age.square().sum()


def frames_of(model: Model, case: Case, slope: Tensor, steps: int) -> Person:
    """Frames (A, 1, X, Y, Z) of a scan in each way, at all of `AGES`."""
    scan = model.prepare(read_case(case, False))
    conditions = model.preprocessing.conditions
    known = understood(conditions, covariates_of(case, conditions))
    latent = invert(model, scan, steps, known).latent.values
    own, before = float(str(known["age"])), model.channels(Latent(latent, known))[:1]
    unknown = model.channels(Latent(latent))[:1]
    made: dict[str, list[Tensor]] = {"series": [], "generated": [], "latent line": []}
    for age in AGES:
        after = model.channels(Latent(latent, {**known, "age": age}))[:1]
        moved = latent + (age - own) * slope.numpy()
        line = model.channels(Latent(moved.astype(np.float32)))[:1]
        made["series"].append((scan.volume + after - before).clamp(-1, 1))
        made["generated"].append(after)
        made["latent line"].append((scan.volume + line - unknown).clamp(-1, 1))
    return Person(own, scan.volume, {name: torch.stack(f) for name, f in made.items()})


def line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Slope and correlation."""
    centred = x - x.mean()
    slope = (centred * (y - y.mean())).sum() / centred.square().sum()
    return float(slope), float(torch.corrcoef(torch.stack([x, y]))[0, 1])


def millilitres(volumes: Tensor, spacing: Sequence[float]) -> Tensor:
    """Volume (B,) of all voxels brighter than the background."""
    return (volumes > -0.9).flatten(1).sum(dim=1) * float(np.prod(spacing)) / 1000


def sides(person: Person) -> str:
    """Change of the dark share a year towards younger and towards older ages, of the series."""
    dark, ages = dark_share(person.frames["series"]), torch.tensor(AGES)
    own, found = float(dark_share(person.volume[None])), []
    for name, side in (("younger", ages < person.age), ("older", ages > person.age)):
        if side.any():
            years = ages[side] - person.age  # the line goes through the scan itself
            slope = float((years * (dark[side] - own)).sum() / years.square().sum())
            found.append(f"{name} {slope:.5f}")
    return ", ".join(found)


def main(model: Model, people: list[Person], others: Tensor, other_ages: Tensor) -> None:
    """Prints how real people differ by age, and how the frames of each way do."""
    spacing, ages = model.preprocessing.spacing, torch.tensor(AGES)
    real_dark, real_size = line(other_ages, dark_share(others))
    print(
        f"{len(others)} real people: dark share {real_dark:.5f} a year (r {real_size:.2f}), ",
        end="",
    )
    size, r = line(other_ages, millilitres(others, spacing))
    print(f"brain {size:.2f} ml a year (r {r:.2f})")
    own = torch.stack([person.volume for person in people])
    between = similarity(own, others)
    mine = between.argmax(dim=1)  # the scan itself, with similarity 1
    between[torch.arange(len(own)), mine] = -1
    print(f"nearest other person: {between.max(dim=1).values.mean():.3f} (audit's similarity)")
    pairs = [ms_ssim(own[[i]], own[[(i + 1) % len(own)]]) for i in range(len(own))]
    print(f"another person: {float(torch.stack(pairs).mean()):.3f} (MS-SSIM)")
    rows = []
    for name in people[0].frames:
        darks, sizes, off, uneven, bent, alike, ssim, first = ([] for _ in range(8))
        for person, at in zip(people, mine, strict=True):
            frames = person.frames[name]
            dark = dark_share(frames)
            darks.append(line(ages, dark)[0])
            sizes.append(line(ages, millilitres(frames, spacing))[0])
            expected = dark_share(person.volume[None]) + real_dark * (ages - person.age)
            off.append(float((dark - expected).abs().mean()))
            steps = (frames[1:] - frames[:-1]).abs().flatten(1).mean(dim=1)
            uneven.append(float(steps.max() / steps.mean()))
            bent.append(float(steps.sum() / (frames[-1] - frames[0]).abs().mean()))
            found = similarity(frames, others)
            alike.append(float(found[:, at].min()))
            first.append(float((found.argmax(dim=1) == at).float().mean()))
            ssim.append(float(ms_ssim(frames, person.volume[None].expand_as(frames)).min()))
        spread = np.std(darks, ddof=1)
        rows.append([
            name, f"{np.mean(darks):.5f} ± {spread:.5f}", f"{np.mean(sizes):.2f}",
            f"{np.mean(off):.4f}", f"{np.mean(uneven):.2f}", f"{np.mean(bent):.2f}",
            f"{np.mean(alike):.3f}", f"{np.mean(ssim):.3f}", f"{np.mean(first):.0%}",
        ])  # fmt: skip
    head = (
        *("frames", "dark share a year", "brain, ml a year", "off by", "largest step / mean"),
        *("way / distance", "least similarity", "least MS-SSIM", "nearest to own scan"),
    )
    print(markdown_table(head, rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    loaded, pseudonyms = Model.load(given.model), Pseudonyms.of_site()
    manifest, _ = index(given.data, pseudonyms)
    splits = read_splits(given.splits, given.data)
    manifest = with_given_splits(manifest, splits, pseudonyms, 0)
    held_out = known_age(loaded, [*manifest.split("calibration"), *manifest.split("test")])
    tested = sorted(known_age(loaded, manifest.split("test")), key=lambda c: float(ages_of([c])))
    chosen = [
        tested[i] for i in np.linspace(0, len(tested) - 1, given.subjects).round().astype(int)
    ]
    training = [*manifest.split("train"), *manifest.split("validation")]
    change = slope_of(loaded, known_age(loaded, training))
    print(f"length of ten years on the latent line: {10 * float(change.norm()):.2f}", flush=True)
    aged = []
    for one in chosen:
        aged.append(frames_of(loaded, one, change, given.steps))
        print(f"{len(aged)}/{len(chosen)}: {aged[-1].age:.1f} years, {sides(aged[-1])}", flush=True)
    real = torch.stack([loaded.prepare(read_case(c, False)).volume for c in held_out])
    main(loaded, aged, real, ages_of(held_out))
