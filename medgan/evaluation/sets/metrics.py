"""The figures by which synthetic volumes are judged, and what real volumes give in their place."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from medgan.evaluation.sets.description import Description
from medgan.evaluation.sets.diversity import class_score, median_distance, vendi_score
from medgan.evaluation.sets.fidelity import (
    frechet_distance,
    frechet_extrapolated,
    histogram_distance,
    principal,
    rbf_distance,
    spectrum_distance,
    volume_distance,
)
from medgan.networks.metrics import Neighbourhoods, kernel_distance, neighbourhoods, standardised

Better = Literal["small", "large", "as real"]
Measure = Callable[[Description, Description], float]
NEIGHBOURS = 5
ENDS = (0.025, 0.975)


class Figure(NamedTuple):
    """How two sets are compared by one number.

    Attributes:
        name: in tables.
        better: whether small, large or as real is good.
        unit: or empty.
        meaning: one plain sentence.
        measure: of real volumes and of those to be judged.
    """

    name: str
    better: Better
    unit: str
    meaning: str
    measure: Measure


class Standing(NamedTuple):
    """A figure of judged volumes beside that of real ones; each a mean over draws.

    Attributes:
        value, low, high: of the judged volumes; 95% of the draws lie from low to high.
        floor, floor_low, floor_high: of real volumes in their place.
        spread: standard deviation of the floor over draws.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_low: float
    floor_high: float
    spread: float


def _features(a: Description, b: Description) -> tuple[torch.Tensor, torch.Tensor]:
    return standardised(a.features, b.features)


def _neighbours(pick: Callable[[Neighbourhoods], float]) -> Measure:
    return lambda a, b: pick(neighbourhoods(*_features(a, b), NEIGHBOURS))


def frechet_features(a: Description, b: Description) -> tuple[torch.Tensor, torch.Tensor]:
    """What Fréchet distances are measured in: a quarter as many components as scans in a set.

    Measured on hippocampi: of real halves of 100 the distance extrapolates to 0.4 in 25
    components and to 56 in all 256 features, and blur and noise stand out more clearly.
    """
    size = min(len(a), len(b))
    return principal(*_features(a, b), max(2, size // 4))


def _frechet(a: Description, b: Description) -> float:
    return frechet_distance(*frechet_features(a, b))


def _at_infinity(a: Description, b: Description) -> float:
    sizes = extrapolation_sizes(min(len(a), len(b)))
    return frechet_extrapolated(*frechet_features(a, b), sizes).at_infinity


def _vendi(a: Description, b: Description) -> float:
    """With half the median distance between real volumes as width: all of it hides repeats."""
    real, fake = _features(a, b)
    return vendi_score(fake, median_distance(real) / 2)


FIGURES: dict[str, Figure] = {
    "kernel_distance": Figure(
        "kernel distance", "small", "",
        "How far the two sets of features lie apart, whatever the number of scans.",
        lambda a, b: float(kernel_distance(a.features, b.features)),
    ),
    "rbf_distance": Figure(
        "Gaussian MMD", "small", "",
        "The same with a kernel that looks at near neighbours.",
        lambda a, b: rbf_distance(*_features(a, b)),
    ),
    "frechet": Figure(
        "Fréchet distance", "small", "",
        "How far means and covariances of the features lie apart; large for small sets.",
        _frechet,
    ),
    "frechet_infinity": Figure(
        "Fréchet distance, extrapolated", "small", "",
        "The same as it would be with infinitely many scans, by a line over 1/n.",
        _at_infinity,
    ),
    "spectrum": Figure(
        "power spectrum", "small", "dB",
        "Difference of the mean power at all spatial frequencies: blur, noise, patterns.",
        lambda a, b: spectrum_distance(a.spectra, b.spectra),
    ),
    "histogram": Figure(
        "intensity histogram", "small", "of [-1, 1]",
        "How far intensities would have to be shifted on average for the histograms to agree.",
        lambda a, b: histogram_distance(a.histograms, b.histograms),
    ),
    "precision": Figure(
        "precision", "large", "",
        "Share of scans that look like some real scan.",
        _neighbours(lambda found: found.precision),
    ),
    "density": Figure(
        "density", "large", "",
        "How many real scans a scan looks like; about 1 for real ones.",
        _neighbours(lambda found: found.density),
    ),
    "recall": Figure(
        "recall", "large", "",
        "Share of real scans within reach of these; outliers reach far.",
        _neighbours(lambda found: found.recall),
    ),
    "coverage": Figure(
        "coverage", "large", "",
        "Share of real scans that have one of these beside them.",
        _neighbours(lambda found: found.coverage),
    ),
    "ms_ssim": Figure(
        "MS-SSIM within the set", "as real", "",
        "How alike two scans of the set are: above real is too uniform, below it noisy.",
        lambda a, b: float(b.similarities.nanmean()),
    ),
    "vendi": Figure(
        "Vendi score", "as real", "scans",
        "How many entirely different scans the set is worth.",
        _vendi,
    ),
}  # fmt: skip


def figures_of(description: Description) -> dict[str, Figure]:
    """All figures that two such sets can be compared by: those of `FIGURES`, sizes, classes."""
    found = dict(FIGURES)
    for column, name in enumerate(description.structures):
        found[f"volume_{name.replace(' ', '_')}"] = Figure(
            f"volume of {name}", "small", "mm³",
            "How far its volume differs over scans, sorted from small to large, on average.",
            _size(column),
        )  # fmt: skip
    if description.classes is not None:
        found["class_score"] = Figure(
            "class score",
            "as real",
            "classes",
            "How many classes a classifier of real scans surely finds.",
            lambda a, b: class_score(_classified(b)),
        )
    return found


def _classified(description: Description) -> torch.Tensor:
    """Probabilities of volumes that have any."""
    assert description.classes is not None
    return description.classes[~description.classes.isnan().any(dim=1)]


def extrapolation_sizes(size: int, count: int = 5) -> list[int]:
    """Sizes up to `size`, at equal steps of 1 / n from a third of it."""
    inverse = np.linspace(3 / size, 1 / size, count)
    return sorted({max(2, round(1 / step)) for step in inverse})


def stand(
    real: Description,
    fake: Description,
    subjects: Sequence[str],
    size: int,
    draws: int,
    seed: int,
) -> dict[str, Standing]:
    """Every figure of fakes, beside the same of real volumes, all sets of one size.

    In each draw the real scans fall into two sets of different subjects; the first is what both
    the second and as many fakes are compared with.

    Args:
        real: all real volumes.
        fake: at least `size` fakes.
        subjects: of each real volume.
        size: volumes of every set compared, at most `largest_size` of the subjects.
        draws: how often sets are drawn.
        seed: of the draws.
    """
    figures = figures_of(real)
    random = torch.Generator().manual_seed(seed)
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in figures}
    for _ in range(draws):
        first, second = (half[:size] for half in halves(subjects, random))
        a, b = real.part(first), real.part(second)
        c = fake.part(torch.randperm(len(fake), generator=random)[:size])
        for name, figure in figures.items():
            values[name].append((figure.measure(a, c), figure.measure(a, b)))
    return {name: standing(np.array(found)) for name, found in values.items()}


def largest_size(subjects: Sequence[str]) -> int:
    """How many scans each of two halves without a common subject surely has."""
    counts = np.unique(list(subjects), return_counts=True)[1]
    return (len(subjects) - int(counts.max()) + 1) // 2


def halves(subjects: Sequence[str], random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of two halves of scans without a common subject, each in random order.

    Args:
        subjects: of each scan.
        random: draws who goes where.
    """
    names = list(dict.fromkeys(subjects))  # not sorted: pseudonyms differ from site to site
    by_subject: dict[str, list[int]] = {name: [] for name in names}
    for row, name in enumerate(subjects):
        by_subject[name].append(row)
    sides: tuple[list[int], list[int]] = ([], [])
    for place in torch.randperm(len(names), generator=random).tolist():
        min(sides, key=len).extend(by_subject[names[place]])
    first, second = (
        torch.tensor(side, device="cpu")[torch.randperm(len(side), generator=random)]
        for side in sides
    )
    return first, second


def _size(column: int) -> Measure:
    return lambda a, b: volume_distance(a.sizes[:, column], b.sizes[:, column])


def standing(values: np.ndarray) -> Standing:
    """Means and ranges over draws.

    Args:
        values: shape (draws, 2), of the judged volumes and of real ones in their place.
    """
    judged, floor = values.T
    (low, high), (floor_low, floor_high) = (
        np.quantile(column, ENDS).tolist() for column in (judged, floor)
    )
    spread = float(floor.std(ddof=1)) if len(floor) > 1 else 0.0
    return Standing(
        float(judged.mean()), low, high, float(floor.mean()), floor_low, floor_high, spread
    )
