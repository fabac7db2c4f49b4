"""Fidelity: statistics of a set of volumes, and distances between two sets."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import wasserstein_distance
from torch import Tensor

BINS = 128
TISSUES = 3
_GREYS = 64


def frechet_distance(real: Float[Tensor, "N F"], fake: Float[Tensor, "M F"]) -> float:
    """Fréchet distance between Gaussians with mean and covariance of the features (FID).

    The trace of the root of the product of the covariances is the nuclear norm of the product of
    the centred features: exact, at a cost of N x M for any number of features.

    The estimate is biased: it grows with fewer volumes and with more features. Compare only sets of
    equal size.

    Args:
        real: shape (N, F), N above 1.
        fake: shape (M, F), M above 1.

    Reference: Heusel et al. 2017, arXiv 1706.08500, eq. 6.
    """
    real, fake = real.double(), fake.double()
    shift = real.mean(dim=0) - fake.mean(dim=0)
    a, b = (
        (x - x.mean(dim=0)) / math.sqrt(len(x) - 1) for x in (real, fake)
    )  # a.T @ a is the covariance
    common = torch.linalg.svdvals(a @ b.T).sum()
    return float(shift.square().sum() + a.square().sum() + b.square().sum() - 2 * common)


def principal(
    real: Float[Tensor, "N F"], fake: Float[Tensor, "M F"], count: int
) -> tuple[Float[Tensor, "N K"], Float[Tensor, "M K"]]:
    """Coordinates of both sets along the leading principal components of all volumes together.

    With fewer volumes than features the covariances are poorly estimated, and the Fréchet distance
    mostly measures that error.

    Args:
        real: shape (N, F).
        fake: shape (M, F).
        count: of components; fewer where the sets are smaller.
    """
    both = torch.cat([real, fake]).double()
    mean = both.mean(dim=0)
    axes = torch.linalg.svd(both - mean, full_matrices=False).Vh[:count].T
    return (real.double() - mean) @ axes, (fake.double() - mean) @ axes


class Extrapolation(NamedTuple):
    """A metric at several sizes, and its linear extrapolation in 1 / n.

    Attributes:
        sizes: volumes of each set, rising.
        values: of the metric at these sizes.
        at_infinity: extrapolated to infinitely many volumes.
        explained: share of the variance of the values that the line explains (R2).
    """

    sizes: tuple[int, ...]
    values: tuple[float, ...]
    at_infinity: float
    explained: float


def frechet_extrapolated(
    real: Float[Tensor, "N F"],
    fake: Float[Tensor, "M F"],
    sizes: Sequence[int],
    draws: int = 3,
    seed: int = 0,
) -> Extrapolation:
    """Fréchet distance by the number of volumes, extrapolated to infinitely many.

    It is linear in 1 / n where n is much larger than the number of features. With fewer volumes
    than features it is not, and part of the bias remains (see `principal`).

    Args:
        real: shape (N, F).
        fake: shape (M, F).
        sizes: at least 2 different ones, from 2 to the smaller of N and M.
        draws: random subsets of each size, whose distances are averaged.
        seed: of the subsets.

    Reference: Chong and Forsyth 2020, arXiv 1911.07023, section 4.
    """
    random = torch.Generator().manual_seed(seed)

    def some(features: Tensor, size: int) -> Tensor:
        return features[torch.randperm(len(features), generator=random)[:size]]

    values = [
        float(np.mean([frechet_distance(some(real, n), some(fake, n)) for _ in range(draws)]))
        for n in sizes
    ]
    inverse = 1 / np.array(sizes)
    slope, at_infinity = np.polyfit(inverse, values, 1)
    left = np.square(np.array(values) - (slope * inverse + at_infinity)).sum()
    total = np.square(np.array(values) - np.mean(values)).sum()
    explained = 1 - float(left / total) if total > 0 else 1.0
    return Extrapolation(tuple(sizes), tuple(values), float(at_infinity), explained)


def rbf_distance(real: Float[Tensor, "N F"], fake: Float[Tensor, "M F"]) -> float:
    """Unbiased squared maximum mean discrepancy with a Gaussian kernel, features as they are.

    The kernel width is the median distance between the volumes of both sets together. Equal
    distributions give 0 on average; the maximum is 2.

    Args:
        real: shape (N, F), N above 1.
        fake: shape (M, F), M above 1.

    Reference: Gretton et al. 2012, A kernel two-sample test, JMLR 13, lemma 6.
    """
    both = torch.cat([real, fake]).double()
    squared = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist").square()
    rows, columns = torch.triu_indices(len(both), len(both), offset=1, device=both.device)
    width = squared[rows, columns].median()
    kernel = torch.exp(-squared / (2 * width.clamp(min=1e-12)))
    n, m = len(real), len(fake)
    within_real = (kernel[:n, :n].sum() - n) / (n * (n - 1))
    within_fake = (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(within_real + within_fake - 2 * kernel[:n, n:].mean())


def histograms(volumes: Float[Tensor, "N 1 X Y Z"], bins: int = BINS) -> Float[Tensor, "N B"]:
    """Share of each volume's voxels in equal steps of intensity from -1 to 1.

    Args:
        volumes: shape (N, 1, X, Y, Z); values outside are counted in the end bins.
        bins: number of bins.
    """
    counts = [torch.histc(v.float().clamp(-1, 1), bins, -1, 1) for v in volumes]
    return torch.stack(counts) / volumes[0].numel()


def histogram_distance(real: Float[Tensor, "N B"], fake: Float[Tensor, "M B"]) -> float:
    """Wasserstein distance between the mean histograms of two sets, in units of intensity.

    Reference: Ramdas et al. 2015, arXiv 1509.02237, proposition 1 (in one dimension).
    """
    centres = (np.arange(real.shape[1]) + 0.5) * 2 / real.shape[1] - 1
    weights = (x.double().mean(dim=0).numpy() for x in (real, fake))
    return float(wasserstein_distance(centres, centres, *weights))


def power_spectra(
    volumes: Float[Tensor, "N 1 X Y Z"], spacing: tuple[float, float, float]
) -> Float[Tensor, "N R"]:
    """Mean power by spatial frequency of each volume, in dB.

    A Hann window suppresses leakage from the borders. Rings have equal width, from above 0 to the
    Nyquist frequency of the coarsest axis (see `frequencies`).

    Args:
        volumes: shape (N, 1, X, Y, Z).
        spacing: mm along the three axes.

    Reference: Durall et al. 2020, arXiv 2003.01826, section 3 (in 2D).
    """
    shape = volumes.shape[2:]
    window = torch.ones(shape, device="cpu")
    squared = torch.zeros(shape, device="cpu")
    for axis, (n, mm) in enumerate(zip(shape, spacing, strict=True)):
        along = [n if a == axis else 1 for a in range(3)]
        window = window * torch.hann_window(n, periodic=False, device="cpu").view(along)
        squared = squared + torch.fft.fftfreq(n, mm, device="cpu").square().view(along)
    edges = torch.linspace(0, _nyquist(spacing), _rings(shape) + 1, device="cpu")
    ring = torch.bucketize(squared.sqrt(), edges)  # 0 is the mean, the last lies beyond Nyquist
    count = torch.bincount(ring.flatten(), minlength=len(edges) + 1)[1:-1]
    rows = []
    for volume in volumes.float().cpu():
        power = torch.fft.fftn((volume[0] - volume.mean()) * window).abs().square()
        sums = torch.bincount(ring.flatten(), power.flatten(), minlength=len(edges) + 1)
        rows.append(10 * torch.log10(sums[1:-1] / count.clamp(min=1) + 1e-9))
    return torch.stack(rows).float()


def frequencies(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> list[float]:
    """Middle of each ring of `power_spectra`, in cycles per mm."""
    rings = _rings(shape)
    return [(ring + 0.5) * _nyquist(spacing) / rings for ring in range(rings)]


def spectrum_distance(real: Float[Tensor, "N R"], fake: Float[Tensor, "M R"]) -> float:
    """Root of the mean squared difference between the mean spectra of two sets, in dB."""
    return float((real.mean(dim=0) - fake.mean(dim=0)).square().mean().sqrt())


def label_volumes(
    label_maps: Int[Tensor, "N X Y Z"], labels: Sequence[int], voxel_mm3: float
) -> Float[Tensor, "N L"]:
    """Volume of each label in each label map, in mm^3."""
    counts = [(label_maps == value).flatten(1).sum(dim=1) for value in labels]
    return torch.stack(counts, dim=1) * voxel_mm3


def tissue_volumes(volumes: Float[Tensor, "N 1 X Y Z"], voxel_mm3: float) -> Float[Tensor, "N L"]:
    """Volume of the three brighter of four intensity classes, darkest first, in mm^3.

    Thresholds are found for each volume, so that contrast has no effect. The darkest class, mostly
    air, is left out.

    Args:
        volumes: shape (N, 1, X, Y, Z), intensities in [-1, 1].
        voxel_mm3: volume of a voxel.

    Reference: Liao et al. 2001, A fast algorithm for multilevel thresholding.
    """
    from skimage.filters import threshold_multiotsu

    rows = []
    for volume in volumes.float().cpu().numpy():
        try:
            limits = threshold_multiotsu(volume.ravel(), TISSUES + 1, nbins=_GREYS)
        except ValueError:  # fewer intensities than classes
            rows.append([0.0] * TISSUES)
            continue
        limits = limits + 0.5 * np.ptp(volume) / _GREYS  # from a bin's middle to its upper end
        classes = np.bincount(np.digitize(volume, limits).ravel(), minlength=TISSUES + 1)
        rows.append((classes[1:] * voxel_mm3).tolist())
    return torch.tensor(rows, device="cpu")


def volume_distance(real: Float[Tensor, " N"], fake: Float[Tensor, " M"]) -> float:
    """Wasserstein distance between the volumes of one structure in two sets, in mm^3."""
    return float(wasserstein_distance(real.numpy(), fake.numpy()))


def _rings(shape: tuple[int, ...]) -> int:
    return max(2, min(shape) // 2)


def _nyquist(spacing: tuple[float, float, float]) -> float:
    return 0.5 / max(spacing)
