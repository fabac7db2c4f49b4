"""Do synthetic volumes look as real ones do: statistics of a set, then distances between two."""

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

    The trace of the root of the covariances' product is the nuclear norm of the product of the
    centred features: exact, and of the cost of N x M, however many features there are.

    It grows as the sets get smaller, though nothing else differs; the more so, the more features
    there are. Only values of equally large sets can be compared.

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

    With fewer volumes than features, covariances are mostly guesses, and a Fréchet distance
    mostly counts them.

    Args:
        real: shape (N, F).
        fake: shape (M, F).
        count: of components; fewer where there are not so many.
    """
    both = torch.cat([real, fake]).double()
    mean = both.mean(dim=0)
    axes = torch.linalg.svd(both - mean, full_matrices=False).Vh[:count].T
    return (real.double() - mean) @ axes, (fake.double() - mean) @ axes


class Extrapolation(NamedTuple):
    """A figure at several sizes, and where the line through it over 1 / n meets 0.

    Attributes:
        sizes: volumes of each set, rising.
        values: the figure at them.
        at_infinity: of infinitely many volumes.
        explained: share of the values' variance that the line explains.
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

    It is linear in 1 / n where n is large against the number of features. With fewer volumes
    than features it bends, and the extrapolation keeps a part of the bias (see `principal`).

    Args:
        real: shape (N, F).
        fake: shape (M, F).
        sizes: at least 2 different ones, from 2 to the smaller of N and M.
        draws: subsets a size, whose distances are averaged.
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

    The kernel is as wide as the median distance between the volumes of both sets together. Equal
    distributions give 0 on average; 2 is the most there is.

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
        volumes: shape (N, 1, X, Y, Z); what lies beyond is counted at the ends.
        bins: steps.
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

    A Hann window keeps the volume's borders from leaking into all frequencies. Rings are equally
    wide, from above 0 to the Nyquist frequency of the coarsest axis (see `frequencies`).

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
    """Volume of the three brighter of four classes of intensity, darkest first, in mm^3.

    Thresholds are each volume's own, so that contrast does not count. The darkest class is
    left out: mostly air, and what the others leave.

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
