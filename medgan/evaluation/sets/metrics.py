"""Metrics of sets of volumes: synthetic compared with real, and real with other real volumes."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from medgan.evaluation.interval import Interval
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


class Metric(NamedTuple):
    """A number by which two sets are compared.

    Attributes:
        name: in tables.
        better: whether small, large or as real is good.
        unit: or empty.
        meaning: one plain sentence.
        measure: of a set of real volumes and another set.
    """

    name: str
    better: Better
    unit: str
    meaning: str
    measure: Measure


class MetricWithReference(NamedTuple):
    """A metric of synthetic volumes beside that of other real volumes.

    Attributes:
        synthetic: mean over random subsets, and the range of 95% of them.
        real: the same of real volumes in place of the synthetic ones.
        spread: standard deviation over the subsets of real volumes.
    """

    synthetic: Interval
    real: Interval
    spread: float


def _features(a: Description, b: Description) -> tuple[torch.Tensor, torch.Tensor]:
    return standardised(a.features, b.features)


def _neighbours(pick: Callable[[Neighbourhoods], float]) -> Measure:
    return lambda a, b: pick(neighbourhoods(*_features(a, b), NEIGHBOURS))


def frechet_features(a: Description, b: Description) -> tuple[torch.Tensor, torch.Tensor]:
    """Features for Fréchet distances: a quarter as many principal components as scans in a set.

    On real halves of 100 hippocampi the distance extrapolates to 0.4 with 25 components and to 56
    with all 256 features; blur and noise are detected more clearly.
    """
    size = min(len(a), len(b))
    return principal(*_features(a, b), max(2, size // 4))


def _frechet(a: Description, b: Description) -> float:
    return frechet_distance(*frechet_features(a, b))


def _at_infinity(a: Description, b: Description) -> float:
    sizes = extrapolation_sizes(min(len(a), len(b)))
    return frechet_extrapolated(*frechet_features(a, b), sizes).at_infinity


def _vendi(a: Description, b: Description) -> float:
    """Kernel width: half the median distance between real volumes; the whole hides repetitions."""
    real, fake = _features(a, b)
    return vendi_score(fake, median_distance(real) / 2)


METRICS: dict[str, Metric] = {
    "kernel_distance": Metric(
        "kernel distance", "small", "",
        "Distance between the two sets of features; it does not depend on the number of scans.",
        lambda a, b: float(kernel_distance(a.features, b.features)),
    ),
    "rbf_distance": Metric(
        "Gaussian MMD", "small", "",
        "The same with a kernel that is sensitive to near neighbours.",
        lambda a, b: rbf_distance(*_features(a, b)),
    ),
    "frechet": Metric(
        "Fréchet distance", "small", "",
        "Distance between means and covariances of the features; larger for small sets.",
        _frechet,
    ),
    "frechet_infinity": Metric(
        "Fréchet distance, extrapolated", "small", "",
        "The same extrapolated to infinitely many scans, linearly in 1/n.",
        _at_infinity,
    ),
    "spectrum": Metric(
        "power spectrum", "small", "dB",
        "Difference of mean power over all spatial frequencies: blur, noise, patterns.",
        lambda a, b: spectrum_distance(a.spectra, b.spectra),
    ),
    "histogram": Metric(
        "intensity histogram", "small", "of [-1, 1]",
        "Mean shift of intensity that would make the histograms equal.",
        lambda a, b: histogram_distance(a.histograms, b.histograms),
    ),
    "precision": Metric(
        "precision", "large", "",
        "Share of scans that are close to some real scan.",
        _neighbours(lambda found: found.precision),
    ),
    "density": Metric(
        "density", "large", "",
        "Number of real scans close to a scan, relative to k; about 1 for real scans.",
        _neighbours(lambda found: found.density),
    ),
    "recall": Metric(
        "recall", "large", "",
        "Share of real scans close to some scan of the set; sensitive to outliers.",
        _neighbours(lambda found: found.recall),
    ),
    "coverage": Metric(
        "coverage", "large", "",
        "Share of real scans that have a scan of the set close to them.",
        _neighbours(lambda found: found.coverage),
    ),
    "ms_ssim": Metric(
        "MS-SSIM within the set", "as real", "",
        "Similarity of two scans of the set: above real is too uniform, below it noisy.",
        lambda a, b: float(b.similarities.nanmean()),
    ),
    "vendi": Metric(
        "Vendi score", "as real", "scans",
        "Effective number of different scans in the set.",
        _vendi,
    ),
}  # fmt: skip


def metrics_of(description: Description) -> dict[str, Metric]:
    """All metrics of such sets: those of `METRICS`, volumes of structures, classes."""
    found = dict(METRICS)
    for column, name in enumerate(description.structures):
        found[f"volume_{name.replace(' ', '_')}"] = Metric(
            f"volume of {name}", "small", "mm³",
            "Mean difference of its volume, scans sorted from small to large.",
            _size(column),
        )  # fmt: skip
    if description.classes is not None:
        found["class_score"] = Metric(
            "class score",
            "as real",
            "classes",
            "Number of classes that a classifier of real scans finds with confidence.",
            lambda a, b: class_score(_classified(b)),
        )
    return found


def _classified(description: Description) -> torch.Tensor:
    """Probabilities of the volumes that have some."""
    assert description.classes is not None
    return description.classes[~description.classes.isnan().any(dim=1)]


def extrapolation_sizes(size: int, count: int = 5) -> list[int]:
    """Sizes from a third of `size` to all of it, at equal steps of 1 / n."""
    inverse = np.linspace(3 / size, 1 / size, count)
    return sorted({max(2, round(1 / step)) for step in inverse})


def compare(
    real: Description,
    fake: Description,
    subjects: Sequence[str],
    size: int,
    draws: int,
    seed: int,
) -> dict[str, MetricWithReference]:
    """Every metric of synthetic volumes beside that of real volumes; all sets have one size.

    In each draw the real scans are split into two sets of different subjects. The second set, and
    as many synthetic volumes, are each compared with the first.

    Args:
        real: all real volumes.
        fake: at least `size` synthetic volumes.
        subjects: of each real volume.
        size: volumes of every set, at most `largest_size` of the subjects.
        draws: number of random splits.
        seed: of the splits.
    """
    metrics = metrics_of(real)
    random = torch.Generator().manual_seed(seed)
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in metrics}
    for _ in range(draws):
        first, second = (half[:size] for half in halves(subjects, random))
        a, b = real.part(first), real.part(second)
        c = fake.part(torch.randperm(len(fake), generator=random)[:size])
        for name, metric in metrics.items():
            values[name].append((metric.measure(a, c), metric.measure(a, b)))
    return {name: with_reference(np.array(found)) for name, found in values.items()}


def largest_size(subjects: Sequence[str]) -> int:
    """Number of scans that each of two halves without a common subject has at least."""
    counts = np.unique(list(subjects), return_counts=True)[1]
    return (len(subjects) - int(counts.max()) + 1) // 2


def halves(subjects: Sequence[str], random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of two halves of scans without a common subject, each in random order.

    Args:
        subjects: of each scan.
        random: source of the randomness.
    """
    names = list(dict.fromkeys(subjects))  # not sorted: pseudonyms differ from site to site
    by_subject: dict[str, list[int]] = {name: [] for name in names}
    for row, name in enumerate(subjects):
        by_subject[name].append(row)
    sides: tuple[list[int], list[int]] = ([], [])
    for number in torch.randperm(len(names), generator=random).tolist():
        min(sides, key=len).extend(by_subject[names[number]])
    first, second = (
        torch.tensor(side, device="cpu")[torch.randperm(len(side), generator=random)]
        for side in sides
    )
    return first, second


def _size(column: int) -> Measure:
    return lambda a, b: volume_distance(a.sizes[:, column], b.sizes[:, column])


def with_reference(values: np.ndarray) -> MetricWithReference:
    """Means and ranges over random subsets.

    Args:
        values: shape (draws, 2): of synthetic volumes, and of real volumes in their place.
    """
    synthetic, real = (Interval.of_resamples(column.mean(), column) for column in values.T)
    spread = float(values[:, 1].std(ddof=1)) if len(values) > 1 else 0.0
    return MetricWithReference(synthetic, real, spread)
