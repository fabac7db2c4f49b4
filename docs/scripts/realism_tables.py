"""Prints the tables of docs/explanation/realism.md and writes its plot.

    python docs/scripts/realism_tables.py msd_hippocampus splits.json zoo/hippocampus \
        runs/alpha_wgan docs/images/realism.png

The first folder holds the scans of which the model and the baseline were trained on a part.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor

import medgan
from medgan.core.tables import markdown_table
from medgan.data.index import index
from medgan.data.manifest import SPLITS
from medgan.data.prepared import read_scans
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import read_splits, with_given_splits
from medgan.evaluation.sets.description import Description, describe
from medgan.evaluation.sets.features import EXTRACTORS, ExtractorSource
from medgan.evaluation.sets.findings import inside
from medgan.evaluation.sets.metrics import METRICS, MetricWithReference, compare
from medgan.networks.metrics import band_features, kernel_distance
from medgan.studies.generated_sets import read_generated_set

EXTRACTED = ("bands", "random", "selfsupervised")
DRAWS = 20
SIZE = 40


def blur(volumes: Tensor, voxels: float, rng: np.random.Generator) -> Tensor:
    """Gaussian blur."""
    return torch.from_numpy(gaussian_filter(volumes.numpy(), (0, 0, voxels, voxels, voxels)))


def noise(volumes: Tensor, spread: float, rng: np.random.Generator) -> Tensor:
    """White noise, in units of the intensity."""
    drawn = torch.from_numpy(rng.standard_normal(volumes.shape, dtype=np.float32))
    return (volumes + spread * drawn).clamp(-1, 1)


def bias(volumes: Tensor, slope: float, rng: np.random.Generator) -> Tensor:
    """Brighter towards one side: by exp(slope) at its edge."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in volumes.shape[2:]), indexing="ij")
    changed = []
    for volume in volumes:
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        field = np.exp(slope * sum(w * a for w, a in zip(direction, axes, strict=True)))
        changed.append(((volume + 1) * torch.from_numpy(field).float() - 1).clamp(-1, 1))
    return torch.stack(changed)


def ghost(volumes: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """The scan moved by half its length along A, blended in."""
    return (1 - share) * volumes + share * volumes.roll(volumes.shape[3] // 2, 3)


def warp(volumes: Tensor, voxels: float, rng: np.random.Generator) -> Tensor:
    """Smooth random displacement of this root mean square along each axis."""
    grid = np.indices(volumes.shape[2:], dtype=np.float32)
    moved = []
    for volume in volumes.numpy():
        displacement = np.stack(
            [gaussian_filter(rng.standard_normal(grid.shape[1:]), 3) for _ in range(3)]
        )
        at = grid + displacement * voxels / displacement.std()
        moved.append(map_coordinates(volume[0], at, order=3, mode="nearest")[None])
    return torch.from_numpy(np.stack(moved)).clamp(-1, 1)


def foreign(volumes: Tensor, radius: float, rng: np.random.Generator) -> Tensor:
    """A ball of another scan, mirrored: locally sound, anatomically wrong."""
    grid, out = np.indices(volumes.shape[2:]), volumes.clone()
    for number in range(len(volumes)):
        centre = [rng.uniform(0.35 * n, 0.65 * n) for n in volumes.shape[2:]]
        away = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        ball = torch.from_numpy(away < radius**2)
        out[number, 0][ball] = volumes[(number + 1) % len(volumes), 0].flip((1, 2))[ball]
    return out


DEGRADED: dict[
    str, tuple[Callable[[Tensor, float, np.random.Generator], Tensor], tuple[float, ...]]
] = {
    "blur": (blur, (0.4, 0.7, 1.0)),
    "noise": (noise, (0.05, 0.1, 0.2)),
    "bias": (bias, (0.1, 0.2, 0.4)),
    "ghost": (ghost, (0.05, 0.1, 0.2)),
    "warp": (warp, (0.5, 1.0, 2.0)),
    "foreign": (foreign, (4, 6, 9)),
}


def degraded(name: str, level: int, volumes: Tensor) -> Tensor:
    """One of three strengths of a degradation."""
    change, strengths = DEGRADED[name]
    return change(volumes, strengths[level], np.random.default_rng([0, level]))


def read(source: Path, splits: Path, model: str) -> tuple[Tensor, Tensor]:
    """Training and validation scans, and calibration and test scans, on the model's grid."""
    pseudonyms = Pseudonyms.of_site()
    manifest = with_given_splits(
        index(source, pseudonyms)[0], read_splits(splits, source), pseudonyms
    )
    grid = medgan.load(model).preprocessing
    with TemporaryDirectory() as cache:
        train, validation, calibration, test = (
            read_scans(manifest.split(name), grid, Path(cache)).images for name in SPLITS
        )
    return torch.cat([train, validation]), torch.cat([calibration, test])


def compare_extractors(volumes: Tensor) -> None:
    """How many standard deviations of real halves each degradation lies above their mean."""
    volumes = volumes[torch.randperm(len(volumes), generator=torch.Generator().manual_seed(0))]
    made = {name: EXTRACTORS[name](ExtractorSource(volumes, None, 0)) for name in EXTRACTED}
    real = {name: extract(volumes) for name, extract in made.items()}
    worse = {name: {} for name in made}
    for kind in DEGRADED:
        for level in range(3):
            changed = degraded(kind, level, volumes)
            for name, extract in made.items():
                worse[name][kind, level] = extract(changed)
    rows = []
    for size in (20, 40, min(80, len(volumes) // 2)):
        for name in made:
            found = {kind: np.zeros((DRAWS, 4)) for kind in [*DEGRADED, "fewer"]}
            for draw in range(DRAWS):
                order = torch.randperm(len(volumes), generator=torch.Generator().manual_seed(draw))
                a, b = order[:size], order[size : 2 * size]
                for kind, values in found.items():
                    sets = [real[name][b]]
                    for level in range(3):
                        few = b[: size // 2 ** (level + 1)].repeat(2 ** (level + 1))
                        one = real[name][few] if kind == "fewer" else worse[name][kind, level][b]
                        sets.append(one)
                    values[draw] = [float(kernel_distance(real[name][a], one)) for one in sets]
            shown = []
            for kind, values in found.items():
                means = values.mean(axis=0)
                ratio = (means[1:] - means[0]) / values[:, 0].std()
                mark = "" if (np.diff(means) > 0).all() else "!"
                shown.append(f"{kind}{mark} {' '.join(f'{r:.1f}' for r in ratio)}")
            rows.append((name, size, *shown))
    print(markdown_table(("extractor", "scans", *DEGRADED, "fewer"), rows))


def described(volumes: Tensor, size: int) -> Description:
    """A set as the metrics use it, with enough pairs for every draw."""
    pairs = round(40 * (len(volumes) / size) ** 2)
    return describe(volumes, band_features(volumes), (1.0, 1.0, 1.0), pairs=pairs)


def jittered(volumes: Tensor, rng: np.random.Generator) -> Tensor:
    """Copies with a contrast changed by up to 2% and noise of a hundredth."""
    brighter = [v * rng.uniform(0.98, 1.02) for v in volumes]
    return noise(torch.stack(brighter).float(), 0.01, rng)


def metrics_of_sets(train: Tensor, held: Tensor, model: str, baseline: str) -> dict[str, dict]:
    """All metrics of several sets taken as synthetic scans."""
    rng = np.random.default_rng(0)
    train = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))]
    some = train[:80]
    sets = {
        "20 training scans": train[:20],
        "80 training scans": some,
        "medgan": read_generated_set(model, medgan.load, 80).images,
        "alpha_wgan": read_generated_set(baseline, medgan.load, 80).images,
        **{f"{kind} {DEGRADED[kind][1][n]:g}": degraded(kind, n, some) for kind, n in (
            ("blur", 0), ("blur", 1), ("noise", 1), ("noise", 2), ("bias", 2), ("ghost", 2),
            ("warp", 2), ("foreign", 2),
        )},
        "80 memorised": jittered(some, rng),
        "20 memorised, 4 times": jittered(some[:20].repeat(4, 1, 1, 1, 1), rng),
        "5 memorised, 16 times": jittered(some[:5].repeat(16, 1, 1, 1, 1), rng),
        "the compared scans": held,
    }  # fmt: skip
    found = {}
    for name, volumes in sets.items():
        size = min(SIZE, len(volumes))
        subjects = [str(n) for n in range(len(held))]
        parts = described(held, size), described(volumes, size)
        found[name] = compare(*parts, subjects, size, SIZE, 0)
        print(name, size, {k: cell(k, s) for k, s in found[name].items()}, flush=True)
    return found


def cell(name: str, found: MetricWithReference) -> str:
    """A cell, with an asterisk where it lies outside the range of real scans."""
    known = METRICS.get(name, METRICS["spectrum"])
    return f"{found.synthetic.value:.3g}{'' if inside(known, found) else ' *'}"


def plot(found: dict[str, dict], path: Path) -> None:
    """How far outside the range of real scans each set lies, in their standard deviations."""
    sides = {"small": 1, "large": -1, "as real": 0}
    names, rows = list(METRICS), [n for n in found if n != "20 training scans"]
    shown = np.zeros((len(rows), len(names)))
    for i, one in enumerate(rows):
        for j, name in enumerate(names):
            s = found[one][name]
            side = sides[METRICS[name].better]
            far = (s.synthetic.value - s.real.value) / max(s.spread, 1e-9)
            shown[i, j] = 0 if inside(METRICS[name], s) else abs(far) if not side else side * far
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.sqrt(shown.clip(0, 36)), cmap="OrRd", vmin=0, vmax=6, aspect="auto")
    axes.set_xticks(range(len(names)), [METRICS[n].name for n in names], rotation=35, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    for i in range(len(rows)):
        for j in range(len(names)):
            text = f"{shown[i, j]:.1f}" if shown[i, j] else "·"
            axes.text(j, i, text, ha="center", va="center", fontsize=8,
                      color="white" if shown[i, j] > 16 else "black")  # fmt: skip
    axes.tick_params(labelsize=8, length=0)
    figure.savefig(path, dpi=110)


def main(source: Path, splits: Path, model: str, baseline: str, picture: Path) -> None:
    """Both tables and the picture."""
    train, held = read(source, splits, model)
    plot(metrics_of_sets(train, held, model, baseline), picture)
    compare_extractors(torch.cat([train, held]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], Path(sys.argv[5]))
